"""Policies on a conversation trace: what each does to cache hits and times to first token.

A trace is replayed in virtual time before simulated engines (a 70 B model on four H100 each) that
a router chooses among. The router gets the engines' KV events, and their statistics every second
as from a scraper; it books each request and is told of first token, output and end. Time is
virtual: the figures do not depend on the machine or on what else it does.

    KVROUTE_TRACES=DIR python benchmarks/python/bench_policy_replay.py [--quick]
        [--policies NAME|JSON ...] [--all] [--requests N] [--workers N] [--blocks N]
        [--speed X ...] [--spread S] [--seed N ...] [--report-interval S] [--sessions]

For each speed (the trace's arrivals come so many times as fast) a table, with means over the seeds.
A seed breaks ties of the router, and from the first one on everything goes another way; where there
are none, as under kv_delay, all seeds give the same. The real trace's requests come in bursts, all
at one instant every 3 s; --spread 3 puts each off at random.

    hit rate       share of the prompts' tokens that the engines found cached
    TTFT           from arrival to the first token, virtual seconds; in brackets after the mean, the
                   least and the greatest mean of the seeds
    requests/s     from the first arrival to the last end, the draining of queues included
    busiest        the most requests, and the most tokens to compute, that one worker got, each as a
                   multiple of the mean
    decided by     shares of the policies that decided, where one defers to others
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from drift_requests import Conversations, Request
from kvroute.engines.cost_model import CostModel
from kvroute.traces import TraceSource, load_trace
from kvroute.traces.locate import TRACES_VARIABLE
from policy_choices import Choice, compared, every, parse
from policy_replay import BLOCK_SIZE, Replayed, World, arriving, replay

HEAD = """\
| policy | hit rate | TTFT, mean s | p50 | p99 | requests/s | busiest | decided by |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


def row(choice: Choice, runs: Sequence[Replayed], workers: int) -> str:
    firsts = [sorted(run.outcome.first_token_seconds) for run in runs]
    means = [fmean(first) for first in firsts]
    mean = f"{fmean(means):.2f}"
    if len(means) > 1:
        mean += f" ({min(means):.2f}-{max(means):.2f})"
    busiest = [run.busiest(workers) for run in runs]
    rules = Counter(rule for run in runs for rule in run.rules)
    shares = (f"{rule} {_percent(n / rules.total())}" for rule, n in rules.most_common())
    cells = (
        choice.label,
        f"{100 * fmean(run.hit_rate for run in runs):.1f} %",
        mean,
        f"{fmean(_quantile(first, 0.5) for first in firsts):.2f}",
        f"{fmean(_quantile(first, 0.99) for first in firsts):.1f}",
        f"{fmean(run.requests_per_second for run in runs):.2f}",
        f"{fmean(requests for requests, _ in busiest):.2f}, "
        f"{fmean(tokens for _, tokens in busiest):.2f}",
        "" if rules.keys() == {choice.name} else ", ".join(shares),
    )
    return f"| {' | '.join(cells)} |"


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[int(share * (len(ordered) - 1))]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.2g} %"


def offered_load(requests: Sequence[Request], speed: float, workers: int) -> float:
    """The share of the time that the prompts alone, each by itself and without a cache, would keep
    the engines busy. Decoding comes on top, hits come off."""
    model = CostModel()
    lengths = [len(request.prompt) for request in requests]
    work = sum(model.step_seconds(n, n * n / 2, 0, 0) for n in lengths)
    seconds = (requests[-1].arrival - requests[0].arrival) / speed
    return work / max(seconds, 1e-9) / workers


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Policies on a conversation trace.")
    parser.add_argument("--policies", nargs="+", type=parse, metavar="NAME|JSON")
    parser.add_argument("--all", action="store_true", help="every policy that there is")
    parser.add_argument("--requests", type=int, default=1000, help="at most so many")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--blocks", type=int, default=28_000, help="of each engine's cache")
    parser.add_argument("--speed", type=float, nargs="+", default=[0.75, 1.4], help="of arrivals")
    parser.add_argument("--spread", type=float, default=0.0, help="trace seconds; see above")
    parser.add_argument("--seed", type=int, nargs="+", default=[1], help="of the router")
    parser.add_argument("--report-interval", type=float, default=1.0, help="virtual seconds")
    parser.add_argument("--sessions", action="store_true", help="conversations carry an id")
    parser.add_argument("--quick", action="store_true", help="300 requests at one speed")
    options = parser.parse_args(arguments)
    if options.quick:
        options.requests, options.speed = min(options.requests, 300), options.speed[-1:]
    for name in ("requests", "workers", "blocks", "report_interval"):
        if getattr(options, name) <= 0:
            parser.error(f"--{name.replace('_', '-')}: expected more than 0")
    if min(options.speed) <= 0 or options.spread < 0:
        parser.error("--speed: expected more than 0; --spread: at least 0")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_arguments(arguments)
    trace = load_trace(limit=options.requests)
    conversations = Conversations(trace.requests, BLOCK_SIZE)
    requests = list(conversations)
    print(f"trace: {trace}: {len(requests)} requests, {conversations.continued} with a next turn")
    if trace.source is TraceSource.GENERATED:
        print(f"(the real trace is not here; {TRACES_VARIABLE} names its folder)")
    world = World(options.workers, options.blocks, options.report_interval, options.sessions)
    print(
        f"{world.workers} engines of {world.blocks} blocks of {BLOCK_SIZE} tokens, which report "
        f"every {world.report_interval:g} s; seeds {', '.join(map(str, options.seed))}"
    )
    choices = options.policies or (every() if options.all else compared())
    for speed in options.speed:
        load = offered_load(requests, speed, world.workers)
        print(f"\nSpeed {speed:g}: uncached prompts alone would be {100 * load:.0f} % load")
        print(f"\n{HEAD}")
        timed = arriving(requests, speed, options.spread)
        for choice in choices:
            runs = [replay(choice.policy, timed, world, seed) for seed in options.seed]
            print(row(choice, runs, world.workers), flush=True)


if __name__ == "__main__":
    main()

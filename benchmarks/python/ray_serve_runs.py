"""The measurements of `bench_ray_serve.py` on a cluster, one table each."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import ray
from closed_loop import Pace, closed_loop, completion_bodies, middle
from kvroute.demo.plan import DemoPlan
from kvroute.demo.workload import Workload, prepare_workload
from kvroute.ray_serve import router_config
from kvroute.traces import TraceSource
from kvroute.traces.locate import TRACES_VARIABLE
from ray.serve.config import RequestRouterConfig
from ray_serve_app import EngineSettings, application
from ray_serve_cluster import deployed, ray_cluster, serving
from ray_serve_replay import HEAD, Replayed, replay_before_frontend, replay_before_serve

PREFIX_CLASS = (
    "ray.llm._internal.serve.routing_policies.prefix_aware.prefix_aware_router:"
    "PrefixCacheAffinityRouter"
)
SHORT, LONG = 64, 4096
CELLS = ((1, SHORT), (16, SHORT), (64, SHORT), (16, LONG))
AT_ONCE = 10_000.0  # speed of engines whose own time shall not count
LABELS = {
    "power_of_two": "power of two, Serve's default",
    "prefix_affinity": "prefix affinity, Ray's",
    "kvroute": "kvroute",
}
PACE_HEAD = f"""\
| requests/s, p50 / p99 ms | 1 client | 16 | 64 | 16, {LONG:,} tokens each |
| --- | --- | --- | --- | --- |"""


def run(options: argparse.Namespace, plan: DemoPlan) -> None:
    """Prints a table for each of the parts; the cluster has ended on return and on errors."""
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(options.deadline)
    loads = " ".join(f"{load:.2f}" for load in os.getloadavg())
    print(
        f"Ray {ray.__version__}, {os.cpu_count()} cores, load before {loads}; "
        f"{options.engines} engines, {options.ingresses} ingress replicas"
    )
    with ray_cluster(), serving() as root:
        if "pace" in options.parts:
            _measure_pace(options, root)
        if "replay" in options.parts:
            _measure_replays(options, root, plan)
    signal.alarm(0)


def _measure_pace(options: argparse.Namespace, root: str) -> None:
    settings = EngineSettings(
        num_blocks=options.num_blocks, block_size=16, speed=AT_ONCE, tokens_per_chunk=1
    )
    bodies = {
        tokens: completion_bodies(tokens, families=16, count=256, max_tokens=1, seed=options.seed)
        for tokens in (SHORT, LONG)
    }
    routers = list(options.routers)
    paces: dict[tuple[str, tuple[int, int]], list[Pace]] = {}
    with ExitStack() as running:
        urls = {
            router: running.enter_context(
                _deployed(options, root, settings, router, options.policies[0])
            )
            for router in routers
        }
        for turn in range(options.rounds):
            for cell in CELLS:
                clients, tokens = cell
                for router in routers[turn % len(routers) :] + routers[: turn % len(routers)]:
                    url = f"{urls[router]}/v1/completions"
                    pace = asyncio.run(closed_loop(url, bodies[tokens], clients, options.seconds))
                    paces.setdefault((router, cell), []).append(pace)
    print(f"\n{PACE_HEAD}")
    for router in routers:
        cells = " | ".join(str(middle(paces[router, cell])) for cell in CELLS)
        print(f"| {LABELS[router]} | {cells} |", flush=True)


def _measure_replays(options: argparse.Namespace, root: str, plan: DemoPlan) -> None:
    workload = prepare_workload(plan)
    _print_workload(plan, workload)
    print(HEAD)

    def show(label: str, replayed: Replayed) -> None:
        print(replayed.row(label, plan.compression), flush=True)
        for message in replayed.result.failure_messages[:3]:
            print(f"{label}: failed: {message}", file=sys.stderr)

    settings = EngineSettings(
        num_blocks=plan.num_blocks,
        block_size=plan.block_size,
        speed=plan.compression,
        tokens_per_chunk=plan.tokens_per_chunk,
    )
    for router in options.routers:
        for policy in plan.policies if router == "kvroute" else plan.policies[:1]:
            with _deployed(options, root, settings, router, policy) as url:
                replayed = asyncio.run(replay_before_serve(url, plan, workload))
            show(f"kvroute, {policy}" if router == "kvroute" else LABELS[router], replayed)
    if "kvroute" in options.routers:
        for policy in plan.policies:
            replayed = asyncio.run(replay_before_frontend(policy, plan, workload))
            show(f"without Ray: `kvroute serve`, {policy}", replayed)


@contextmanager
def _deployed(
    options: argparse.Namespace,
    root: str,
    settings: EngineSettings,
    router: str,
    policy: str,
) -> Iterator[str]:
    """The URL of an application of fresh engines behind `router`, while it is entered."""
    made = application(
        settings,
        _router_config(router, policy, settings),
        engines=options.engines,
        ingresses=options.ingresses,
        with_helper=router == "kvroute",
    )
    with deployed(root, f"{router}-{policy}", made) as url:
        yield url


def _router_config(router: str, policy: str, settings: EngineSettings) -> RequestRouterConfig:
    if router == "prefix_affinity":
        return RequestRouterConfig(request_router_class=PREFIX_CLASS)
    if router == "kvroute":
        config: RequestRouterConfig = router_config(block_size=settings.block_size, policy=policy)
        return config
    return RequestRouterConfig()


def _print_workload(plan: DemoPlan, workload: Workload) -> None:
    trace = workload.trace
    count, seconds = len(trace.requests), workload.trace_seconds / plan.compression
    print(
        f"\ntrace: {trace}: {count} requests, {count / seconds:.0f} a second for {seconds:.0f} s, "
        f"mean {workload.prompt_tokens / count:,.0f} tokens in, "
        f"{workload.output_tokens / count:.0f} out; one infinite cache would hit "
        f"{100 * workload.infinite_cache_hit_rate:.1f} %"
    )
    if trace.source is TraceSource.GENERATED:
        print(f"(the real trace is not here; {TRACES_VARIABLE} names its folder)")


def _give_up(*_: object) -> None:
    raise TimeoutError("not finished within --deadline")

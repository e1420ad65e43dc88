"""Three routers over one Ray Serve application: Serve's own, Ray's by prefixes, kvroute's.

One local Ray cluster, simulated engines inside the replicas, every request through Serve's HTTP
proxy and a FastAPI ingress. Needs `pip install 'kvroute[ray,serve]'`; without Ray it says so and
ends.

    KVROUTE_TRACES=DIR python benchmarks/python/bench_ray_serve.py [--quick]
        [--parts pace replay] [--routers NAME ...] [--policies NAME ...] [--engines N]
        [--ingresses N] [--rounds N] [--seconds X] [--requests N] [--compression X]

`pace`: requests a second, and p50 / p99 of a request in ms, from engines that answer one token at
once to clients that each ask again when they are answered. The applications run side by side and
are asked in turn; medians of the rounds.

`replay`: the trace as `kvroute demo` replays it, but slower, since Serve needs more CPU than the
engines; each on fresh engines, and at last without Ray. Times to first token are in engine time,
wall time x --compression: so many times does Serve's own time count in them, too.

    in the engine   mean time to first token by the engines' own clocks
    late, CPU       the worst delay of a request's sending or (p99) of this client's waking, and the
                    machine's CPU use: where these are high, the figures are of this machine
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.util import find_spec

from kvroute.demo.plan import DemoPlan

ROUTERS = ("power_of_two", "prefix_affinity", "kvroute")
PARTS = ("pace", "replay")


def demo_plan(options: argparse.Namespace) -> DemoPlan:
    """What is replayed, as the demo has it."""
    return DemoPlan(
        requests=options.requests,
        policies=tuple(options.policies),
        engines=options.engines,
        compression=options.compression,
        length_scale=options.length_scale,
        num_blocks=options.num_blocks,
        tokens_per_chunk=options.tokens_per_chunk,
        seed=options.seed,
    )


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    plan = DemoPlan()
    parser = argparse.ArgumentParser(description="Three routers over one Ray Serve application.")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--routers", nargs="+", choices=ROUTERS, default=ROUTERS)
    parser.add_argument("--policies", nargs="+", default=["kv_cost"], help="kvroute's, replayed")
    parser.add_argument("--engines", type=int, default=plan.engines, help="replicas")
    parser.add_argument("--ingresses", type=int, default=1, help="replicas of the ingress")
    parser.add_argument("--rounds", type=int, default=3, help="of pace")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement of pace")
    parser.add_argument("--requests", type=int, default=plan.requests, help="replayed, at most")
    parser.add_argument("--compression", type=float, default=5.0, help="engine time in wall time")
    parser.add_argument("--length-scale", type=float, default=plan.length_scale, help="of prompts")
    parser.add_argument("--num-blocks", type=int, default=plan.num_blocks, help="of each engine")
    parser.add_argument(
        "--tokens-per-chunk", type=int, default=1024, help="after an answer's first token"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--deadline", type=int, default=900, help="seconds; then it is given up")
    parser.add_argument("--quick", action="store_true", help="a look, no figures")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.seconds, options.requests = 1, 1.0, 60
    for name in ("engines", "ingresses", "rounds", "seconds", "deadline"):
        if getattr(options, name) <= 0:
            parser.error(f"--{name}: expected more than 0")
    try:
        demo_plan(options)
    except ValueError as error:
        parser.error(str(error))
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_arguments(arguments)
    if find_spec("ray") is None:
        print("Ray is not installed: nothing to compare with")
        return
    import ray_serve_runs

    ray_serve_runs.run(options, demo_plan(options))


if __name__ == "__main__":
    main()

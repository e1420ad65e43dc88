"""What a decision costs a Ray Serve router: Serve's own, Ray's by prefixes, kvroute's.

Routers as Ray makes them, before stand-ins of replicas that answer nothing. They get the same
prompts, in turns of 40 calls; kvroute's and Ray's have been told that every replica holds all of
them, the longest walk there is. Ray's prefix router asks an actor, on a cluster of this script's
own. Needs `pip install 'kvroute[ray,serve]'`; without Ray it says so and ends.

    python benchmarks/python/bench_ray_choose.py [--quick] [--replicas N ...] [--tokens N]

    choose_replicas   the call alone; kvroute's with reading and hashing the token ids
    whole             all that Serve has a router do for a request: the search for a replica, which
                      calls choose_replicas in a task of its own, and the hooks until its end
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.util import find_spec


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What a Ray Serve router's decision costs.")
    parser.add_argument("--replicas", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--tokens", type=int, default=8192, help="of each prompt")
    parser.add_argument("--repeats", type=int, default=400, help="calls of each kind")
    parser.add_argument("--quick", action="store_true", help="a look, no figures")
    options = parser.parse_args(arguments)
    if options.quick:
        options.repeats = 40
    if min(*options.replicas, options.tokens, options.repeats) < 1:
        parser.error("expected numbers of at least 1")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_arguments(arguments)
    if find_spec("ray") is None:
        print("Ray is not installed: nothing to compare with")
        return
    import ray_serve_choices

    ray_serve_choices.run(options)


if __name__ == "__main__":
    main()

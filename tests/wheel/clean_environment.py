"""Runs in an environment that holds kvroute's wheel and nothing else; prints a JSON line.

python clean_environment.py EVENTS_ENDPOINT
"""

from __future__ import annotations

import json
import sys
import time
from array import array
from pathlib import Path

BLOCK_SIZE = 16
PROMPT = array("I", range(3 * BLOCK_SIZE))
DEADLINE = 30.0


def mapped_files() -> set[str]:
    """The files in this process's address space."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {path for path in (line.split(maxsplit=5)[-1] for line in lines) if path[:1] == "/"}


def main() -> None:
    before = mapped_files()
    import kvroute

    router = kvroute.KvRouter(block_size=BLOCK_SIZE, seed=1)
    router.add_worker("cold")
    first = router.select_worker(PROMPT)  # before any event can be there
    router.add_worker("warm", kv_events=sys.argv[1])

    end = time.monotonic() + DEADLINE
    while ("warm", 0) not in router.overlaps(PROMPT):
        if time.monotonic() > end:
            raise SystemExit(f"no event within {DEADLINE} s: {router.stats().targets[1].events}")
        time.sleep(0.01)
    choice = router.select_worker(PROMPT)

    raised = []
    for attempt in (
        lambda: router.select_worker(PROMPT, allowed=["nobody"]),
        lambda: router.select_worker([]),
        lambda: router.select_worker([-1]),
        lambda: kvroute.KvRouter(block_size=BLOCK_SIZE).select_worker(PROMPT),
    ):
        try:
            attempt()
        except Exception as error:
            raised.append(type(error).__name__)
    mapped = mapped_files()
    router.close()
    report = {
        "package": str(Path(kvroute.__file__).parent),
        "first": [first.worker, first.cached_tokens],
        "choice": [choice.worker, choice.cached_tokens, choice.prefill_tokens],
        "raised": raised,
        "added": sorted(mapped - before),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()

"""So many clients that each ask again when they are answered, and what they saw."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import aiohttp
import orjson
from kvroute.demo.summary import quantile


@dataclass(frozen=True, slots=True)
class Pace:
    """Requests a second, and seconds of a request; `failures` are not among them."""

    rate: float
    p50: float
    p99: float
    failures: int = 0

    def __str__(self) -> str:
        failed = f" ({self.failures} failed)" if self.failures else ""
        return f"{self.rate:.0f}, {1e3 * self.p50:.0f} / {1e3 * self.p99:.0f}{failed}"


def middle(paces: Sequence[Pace]) -> Pace:
    """Of each figure the median; failures are added up."""
    return Pace(
        median(pace.rate for pace in paces),
        median(pace.p50 for pace in paces),
        median(pace.p99 for pace in paces),
        sum(pace.failures for pace in paces),
    )


def completion_bodies(
    tokens: int, *, families: int, count: int, max_tokens: int, seed: int
) -> list[bytes]:
    """Completion requests of `tokens` ids each, of which those of one family share 3 in 4."""
    choice = random.Random(seed)
    shared = [choice.choices(range(32_000), k=tokens * 3 // 4) for _ in range(families)]
    bodies = []
    for head in itertools.islice(itertools.cycle(shared), count):
        prompt = head + choice.choices(range(32_000), k=tokens - len(head))
        bodies.append(orjson.dumps({"prompt": prompt, "max_tokens": max_tokens}))
    return bodies


async def closed_loop(url: str, bodies: Sequence[bytes], clients: int, seconds: float) -> Pace:
    """Posts the bodies in turn to `url`, `clients` at once, for `seconds` after a fifth of them
    for warming up. What is under way at the end is waited for and counted by its share."""
    supply = itertools.cycle(bodies)
    timeout = aiohttp.ClientTimeout(total=60)
    begin = time.perf_counter() + seconds / 5
    end = begin + seconds
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=timeout
    ) as session:
        seen = await asyncio.gather(*(_ask(session, url, supply, end) for _ in range(clients)))
    asked = [one for client in seen for one in client if one.ended > begin]
    return pace_of(asked, begin, end)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: when it began and ended, and whether it was answered 200."""

    began: float
    ended: float
    succeeded: bool


def pace_of(asked: Sequence[Asked], begin: float, end: float) -> Pace:
    """Of the requests that lay at least in part between `begin` and `end`."""
    good = [one for one in asked if one.succeeded]
    done = sum(
        (min(one.ended, end) - max(one.began, begin)) / (one.ended - one.began) for one in good
    )
    times = sorted(one.ended - one.began for one in good)
    failures = len(asked) - len(good)
    return Pace(done / (end - begin), quantile(times, 0.5), quantile(times, 0.99), failures)


async def _ask(
    session: aiohttp.ClientSession, url: str, supply: Iterator[bytes], end: float
) -> list[Asked]:
    asked = []
    while (began := time.perf_counter()) < end:
        succeeded = False
        try:
            async with session.post(url, data=next(supply)) as response:
                await response.read()
                succeeded = response.status == 200
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError):
            pass
        asked.append(Asked(began, time.perf_counter(), succeeded))
    return asked

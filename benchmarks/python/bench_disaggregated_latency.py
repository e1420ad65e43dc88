"""What the flow in two legs adds to its two bare calls.

One request at a time over HTTP, in turn: a client that makes both calls of NIXL's protocol itself
(prefill engine, then decode engine), and the same prompt through the frontend, which chooses both
engines, makes both calls and relays the answer. The simulated engines answer almost at once, so
that what is left is the calls. Streamed: until the first token; whole: until the answer's end.

    python benchmarks/python/bench_disaggregated_latency.py [--requests N] [--lengths N ...]

    bare, kvroute   p50 / p99 in ms
    added           difference of the medians
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import median
from typing import Any

import aiohttp
import orjson
from kvroute.demo.summary import quantile
from role_fleet import MODEL, EnginePlan, RoleFleet

PARAMETERS = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}
HEAD = """\
| prompt | answer | bare | kvroute | added |
| --- | --- | --- | --- | --- |"""


class Client:
    """Sends prompts in both ways. Each call of `bare` and `routed` gives its seconds."""

    def __init__(self, session: aiohttp.ClientSession, fleet: RoleFleet) -> None:
        self._session = session
        self._prefill, self._decode = fleet.engines
        self._frontend = fleet.url

    async def bare(self, prompt: list[int], stream: bool) -> float:
        body = {"model": MODEL, "prompt": prompt, "max_tokens": 8, "ignore_eos": True}
        started = time.perf_counter()
        first = {**body, "max_tokens": 1, "kv_transfer_params": PARAMETERS}
        answer = orjson.loads(await self._post(self._prefill, first))
        second = {**body, "stream": stream, "kv_transfer_params": answer["kv_transfer_params"]}
        return await self._timed(self._decode, second, started)

    async def routed(self, prompt: list[int], stream: bool) -> float:
        body = {"model": MODEL, "prompt": prompt, "max_tokens": 8, "ignore_eos": True}
        return await self._timed(self._frontend, {**body, "stream": stream}, time.perf_counter())

    async def _post(self, url: str, body: dict[str, Any]) -> bytes:
        data = orjson.dumps(body)
        async with self._session.post(f"{url}/v1/completions", data=data) as response:
            content = await response.read()
            if response.status != 200:
                raise SystemExit(f"{url} answered {response.status}: {content[:300]!r}")
            return content

    async def _timed(self, url: str, body: dict[str, Any], started: float) -> float:
        data = orjson.dumps(body)
        async with self._session.post(f"{url}/v1/completions", data=data) as response:
            if response.status != 200:
                raise SystemExit(f"{url} answered {response.status}: {await response.text()}")
            if body["stream"]:
                await response.content.readany()
                seconds = time.perf_counter() - started
                await response.read()
                return seconds
            await response.read()
            return time.perf_counter() - started


async def compare(client: Client, length: int, stream: bool, requests: int) -> str:
    """A row of the table. No prompt comes twice, so that no cache helps either way."""
    random_tokens = random.Random(length)
    times: dict[Callable[[list[int], bool], Awaitable[float]], list[float]] = {
        client.bare: [],
        client.routed: [],
    }
    for number in range(requests + 10):
        for way, seconds in times.items():
            prompt = [random_tokens.randrange(32_000) for _ in range(length)]
            taken = await way(prompt, stream)
            if number >= 10:
                seconds.append(1e3 * taken)
    bare, routed = (sorted(seconds) for seconds in times.values())
    cells = (
        f"{length:,} tokens",
        "streamed" if stream else "whole",
        *(f"{median(one):.2f} / {quantile(one, 0.99):.2f}" for one in (bare, routed)),
        f"{median(routed) - median(bare):.2f} ms",
    )
    return f"| {' | '.join(cells)} |"


async def run(options: argparse.Namespace) -> None:
    longest = max(options.lengths)
    plan = EnginePlan(speed=1000.0, num_blocks=max(48_000, 4 * longest // 16))
    frontend = [
        "--routing-logic=disaggregated_prefill_orchestrated",
        f"--load-balancing-strategy={options.strategy}",
    ]
    print(f"{options.requests} requests of each kind, one at a time, strategy {options.strategy}\n")
    print(HEAD)
    async with (
        RoleFleet(plan, ["prefill", "decode"], frontend) as fleet,
        aiohttp.ClientSession(headers={"content-type": "application/json"}) as session,
    ):
        client = Client(session, fleet)
        for length in options.lengths:
            for stream in (True, False):
                print(await compare(client, length, stream, options.requests), flush=True)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What the flow in two legs adds.")
    parser.add_argument("--requests", type=int, default=300, help="of each kind and length")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048, 8192])
    parser.add_argument("--strategy", default="kv", help="of both phases")
    parser.add_argument("--quick", action="store_true", help="30 requests of each")
    options = parser.parse_args(arguments)
    if options.quick:
        options.requests = min(options.requests, 30)
    if options.requests < 1 or min(options.lengths) < 1:
        parser.error("--requests, --lengths: expected at least 1")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    asyncio.run(run(parse_arguments(arguments)))


if __name__ == "__main__":
    main()

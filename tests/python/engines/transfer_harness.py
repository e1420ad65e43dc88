"""Two engines of one connector, called leg by leg without a router."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import aiohttp
import orjson
from kvroute.engines import CostModel, SimulatedEngine, running
from kvroute.engines.config import KvRole

FAST = CostModel(speed=1000)
TIMEOUT = 60.0
BLOCK = 16
PROMPT = [(7 * number) % 250 for number in range(6 * BLOCK + 5)]
SHORT = [1, 2, 3]

Until: TypeAlias = Callable[[Callable[[], bool]], Awaitable[None]]
Change: TypeAlias = Callable[[dict[str, Any]], object]


@dataclass
class Pair:
    """A prefill and a decode engine, one that does everything, and a client."""

    prefill: SimulatedEngine
    decode: SimulatedEngine
    single: SimulatedEngine
    session: aiohttp.ClientSession

    async def post(
        self,
        engine: SimulatedEngine,
        body: Mapping[str, Any],
        *,
        path: str = "/v1/completions",
        request_id: str | None = None,
    ) -> tuple[int, Any]:
        """Status and answer; the joined text and the last reason of a stream."""
        headers = {} if request_id is None else {"X-Request-Id": request_id}
        url = engine.http_url + path
        async with self.session.post(url, data=orjson.dumps(body), headers=headers) as response:
            return response.status, orjson.loads(await response.read())

    async def text(self, engine: SimulatedEngine, body: Mapping[str, Any], **how: Any) -> str:
        """The text of a request that must succeed."""
        status, answer = await self.post(engine, body, **how)
        assert status == 200, answer
        return str(answer["choices"][0]["text"])

    async def state(self, engine: SimulatedEngine) -> dict[str, Any]:
        """What the engine tells of its transfers."""
        async with self.session.get(f"{engine.http_url}/debug/transfers") as response:
            return dict(await response.json())

    async def fault(self, engine: SimulatedEngine, step: str, action: str, **more: Any) -> None:
        """Let the engine fail at a step."""
        body = {"step": step, "action": action, **more}
        status, answer = await self.post(engine, body, path="/debug/faults")
        assert status == 200, answer

    def check_nothing_is_held(self) -> None:
        """No block of either engine is in use, and nothing waits."""
        for engine in (self.prefill, self.decode):
            assert engine.core.cache.usage == 0.0
            assert engine.core.transfers.state()["held_blocks"] == 0
            assert engine.core.transfers.state()["waiting"] == 0


@asynccontextmanager
async def pair(connector: str, **settings: Any) -> AsyncIterator[Pair]:
    """Both engines with the same settings, and different block hashes."""
    common: dict[str, Any] = {
        "model": "m",
        "block_size": BLOCK,
        "num_blocks": 256,
        "cost": FAST,
        "kv_connector": connector,
        "rendezvous_timeout": 30.0,
        **settings,
    }
    if connector == "lmcache":
        common.setdefault("kv_proxy_port", 1)
    prefill = SimulatedEngine(**{**common, "kv_role": KvRole.PREFILL})
    decode = SimulatedEngine(**{**common, "kv_role": KvRole.DECODE})
    single = SimulatedEngine(model="m", block_size=BLOCK, num_blocks=256, cost=FAST)
    limit = aiohttp.ClientTimeout(total=TIMEOUT)
    async with running(prefill, decode, single), aiohttp.ClientSession(timeout=limit) as session:
        yield Pair(prefill, decode, single, session)


def changed(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of `body` with another value at a dotted path; Ellipsis takes it out."""
    copy: dict[str, Any] = orjson.loads(orjson.dumps(body))
    *parents, last = path.split(".")
    place = copy
    for name in parents:
        place = place[name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return copy

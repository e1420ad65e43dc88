"""A frontend before simulated prefill and decode engines of one connector."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from frontend_harness import Frontend, running_frontend
from kvroute.engines import CostModel, SimulatedEngine, running
from kvroute.engines.config import KvRole
from kvroute.frontend.protocols import core_router

BLOCK = 16
FAST = CostModel(speed=1000)
PROMPT = [(7 * number) % 250 for number in range(6 * BLOCK + 5)]
CONNECTORS = ("nixl", "lmcache", "sglang", "mooncake", "p2p_nccl", "shared_storage")
CHAT = [{"role": "user", "content": "What is the capital of France, and why is it not Lyon?"}]


@dataclass
class Deployment:
    """The frontend, its engines by role, and an engine that serves everything by itself."""

    frontend: Frontend
    prefill: Sequence[SimulatedEngine]
    decode: Sequence[SimulatedEngine]
    single: SimulatedEngine

    async def ask(self, path: str, **body: Any) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON and headers of a request to the frontend."""
        url = self.frontend.url + path
        async with self.frontend.client.post(url, data=_body(body)) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return response.status, orjson.loads(await response.read()), headers

    async def stream(self, path: str, **body: Any) -> tuple[int, list[Any], bool]:
        """Status, the JSON of every event (of an error its body's), and whether [DONE] came. What
        breaks off is returned as far as it came."""
        url = self.frontend.url + path
        async with self.frontend.client.post(url, data=_body({**body, "stream": True})) as response:
            content = bytearray()
            with contextlib.suppress(aiohttp.ClientPayloadError):
                async for part in response.content.iter_any():
                    content += part
            if response.status != 200:
                return response.status, [orjson.loads(content)], False
            return response.status, *events(bytes(content))

    async def single_answer(self, path: str, **body: Any) -> Any:
        """What the engine that serves everything answers."""
        async with self.frontend.client.post(
            self.single.http_url + path, data=_body(body)
        ) as response:
            content = await response.read()
            assert response.status == 200, content
            return events(content)[0] if body.get("stream") else orjson.loads(content)

    async def fault(self, engine: SimulatedEngine, step: str, action: str, **more: Any) -> None:
        """Lets an engine fail at a step."""
        body = orjson.dumps({"step": step, "action": action, **more})
        url = f"{engine.http_url}/debug/faults"
        async with self.frontend.client.post(url, data=body) as response:
            assert response.status == 200, await response.text()

    async def settled(self, seconds: float = 10.0, *, expire: bool = False) -> None:
        """Returns when nothing is booked, and no engine holds or computes anything; TimeoutError
        saying what is left, after `seconds`. `expire`: what engines hold expires at once."""
        deadline = asyncio.get_running_loop().time() + seconds
        while left := self._left():
            if expire:
                self._expire()
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(f"left after {seconds:g} s: {left}")
            await asyncio.sleep(0.02)

    def _expire(self) -> None:
        for engine in (*self.prefill, *self.decode):
            engine.core.transfers.holds.close()
            arrivals = getattr(engine.core.transfers.role, "arrivals", None)
            if arrivals is not None:
                arrivals.close()

    def _left(self) -> dict[str, Any]:
        assert self.frontend.app.services is not None
        (group,) = self.frontend.app.services.fleet.groups.values()
        found: dict[str, Any] = {}
        if group.router.stats().reservations:
            found["reservations"] = group.router.stats().reservations
        for engine in (*self.prefill, *self.decode):
            core = engine.core
            if (
                core.cache.usage
                or core.scheduler.has_work
                or core.transfers.holds.num_handoffs
                or (core.transfers.role is not None and core.transfers.role.waiting())
            ):
                found[engine.http_url] = core.transfers.state()
        return found


def _body(fields: dict[str, Any]) -> bytes:
    return orjson.dumps({"model": "m", **fields})


def events(content: bytes) -> tuple[list[Any], bool]:
    """The JSON of every event of a stream, and whether it ended with [DONE]."""
    data = [
        line.removeprefix(b"data: ") for line in content.split(b"\n\n") if line.startswith(b"data:")
    ]
    done = bool(data) and data[-1] == b"[DONE]"
    return [orjson.loads(one) for one in (data[:-1] if done else data)], done


def text_of(answer: Any) -> str:
    """The generated text of a whole answer, or of a stream's events."""
    if isinstance(answer, dict):
        choice = answer["choices"][0]
        return str(choice["message"]["content"] if "message" in choice else choice["text"])
    return "".join(
        (choice.get("delta") or {}).get("content") or choice.get("text") or ""
        for event in answer
        for choice in event.get("choices", [])
    )


def reason_of(answer: Any) -> str | None:
    """The finish reason of a whole answer, or of a stream's events."""
    choices = [
        c
        for event in ([answer] if isinstance(answer, dict) else answer)
        for c in event.get("choices", [])
    ]
    return next((c["finish_reason"] for c in reversed(choices) if c.get("finish_reason")), None)


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that the engines may know before the frontend listens there. While this lasts the
    system gives it to nobody; one who names it may listen, as ZMQ's sockets do, since nobody does.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


def _connector_settings(
    connector: str,
    prefill: Sequence[SimulatedEngine],
    decode: Sequence[SimulatedEngine],
    proxy_port: int,
    folder: Path,
) -> dict[str, Any]:
    if connector == "lmcache":
        registry = {engine.http_url: _receiver(engine) for engine in decode}
        return {
            "decoder_registry": json.dumps(registry),
            "proxy_host": "127.0.0.1",
            "proxy_port": proxy_port,
        }
    options: dict[str, Any] = {}
    if connector in ("sglang", "mooncake"):
        options["bootstrap_ports"] = {
            engine.http_url: (engine.kv_transfer or {})["port"] for engine in prefill
        }
    if connector == "p2p_nccl":
        options["registration_host"] = "127.0.0.1"
        options["registration_port"] = proxy_port
        options["addresses"] = {
            engine.http_url: (engine.kv_transfer or {})["zmq_address"]
            for engine in (*prefill, *decode)
        }
    if not options:
        return {}
    file = folder / f"{connector}.json"
    file.write_text(json.dumps(options))
    return {"disagg_options": file}


def _event_settings(engines: Sequence[SimulatedEngine]) -> dict[str, Any]:
    if any(engine.kv_events is None for engine in engines):
        return {}
    return {
        "kv_events": [engine.kv_events for engine in engines],
        "kv_replay": [engine.kv_replay for engine in engines],
    }


def _receiver(engine: SimulatedEngine) -> dict[str, Any]:
    told = engine.kv_transfer or {}
    names = ("receiver_host", "receiver_init_port", "receiver_alloc_port")
    return {name: told[name] for name in names}


@asynccontextmanager
async def deployment(
    connector: str,
    prefills: int,
    decodes: int,
    folder: Path,
    *,
    cost: CostModel = FAST,
    engines: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Deployment]:
    """`prefills` prefill and `decodes` decode engines behind a frontend that makes two legs."""
    common: dict[str, Any] = {
        "model": "m",
        "block_size": BLOCK,
        "num_blocks": 512,
        "cost": cost,
        "kv_connector": connector,
        "rendezvous_timeout": 5.0,
        "transfer_expiry": 5.0,
        **(engines or {}),
    }
    if connector == "shared_storage":
        common["kv_shared_path"] = folder
    with reserved_port() as proxy_port:
        if connector == "lmcache":
            common["kv_proxy_port"] = proxy_port
        roles = [KvRole.PREFILL] * prefills + [KvRole.DECODE] * decodes
        made = [SimulatedEngine(**common, kv_role=role) for role in roles]
        prefill, decode = made[:prefills], made[prefills:]
        single = SimulatedEngine(**{**common, "kv_connector": None})
        async with (
            running(*made, single),
            running_frontend(
                *(engine.http_url for engine in made),
                make_router=core_router,
                block_size=BLOCK,
                **_event_settings(made),
                routing_logic="disaggregated_prefill_orchestrated",
                static_model_labels=["p"] * prefills + ["d"] * decodes,
                prefill_model_labels=["p"],
                decode_model_labels=["d"],
                disagg_connector_type=connector,
                **{
                    **_connector_settings(connector, prefill, decode, proxy_port, folder),
                    **settings,
                },
            ) as frontend,
        ):
            yield Deployment(frontend, prefill, decode, single)

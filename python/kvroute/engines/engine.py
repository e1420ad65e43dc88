"""A simulated engine inside this process: everything a real one offers, on local ports."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any

import uvicorn

from kvroute.engines.config import EngineConfig
from kvroute.engines.core import EngineCore
from kvroute.engines.errors import EngineError
from kvroute.engines.openai_http import OpenAiApp
from kvroute.engines.transfer.meetings import within

_START_TIMEOUT = 10.0
_STOP_TIMEOUT = 0.5
_TICK = 0.1


class SimulatedEngine:
    """An engine with HTTP, KV events, replay and load events on the running event loop.

    ::

        async with SimulatedEngine(model="m", block_size=16, num_blocks=4096) as engine:
            engine.http_url, engine.kv_events, engine.kv_replay, engine.load_events

    Takes an `EngineConfig`, or the settings of one by name. Endpoints are those that were bound
    (port 0 is chosen by the system) and are known once it has been entered; None where there is
    none. On exit running requests are given up: streams end with an error, others get a 503.
    """

    def __init__(self, config: EngineConfig | None = None, **settings: Any) -> None:
        if config is not None and settings:
            raise TypeError("expected a config or settings, got both")
        self.config = EngineConfig(**settings) if config is None else config
        self.core = EngineCore(self.config)
        self.http_url = ""
        self._server = _Server(
            uvicorn.Config(
                OpenAiApp(self.core),
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=1,
                backlog=2048,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    @property
    def kv_events(self) -> str | None:
        """Endpoint of the KV event PUB socket."""
        return None if self.core.kv_events is None else self.core.kv_events.endpoint

    @property
    def kv_replay(self) -> str | None:
        """Endpoint of the replay ROUTER socket."""
        return None if self.core.kv_events is None else self.core.kv_events.replay_endpoint

    @property
    def load_events(self) -> str | None:
        """Endpoint of the load PUB socket."""
        return None if self.core.load_events is None else self.core.load_events.endpoint

    @property
    def kv_transfer(self) -> dict[str, Any] | None:
        """Where its connector is found: connector, role, and what else the protocol needs."""
        return self.core.transfers.addresses()

    async def __aenter__(self) -> SimulatedEngine:
        listener = _listen(self.config.host, self.config.port)
        try:
            await self.core.__aenter__()
        except BaseException:
            listener.close()
            raise
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        self.http_url = f"http://{shown}:{port}"
        if self.core.transfers.role is not None:
            self.core.transfers.role.serve_http_at(f"{shown}:{port}")
        self._serving = asyncio.create_task(self._server.serve([listener]))
        try:
            await asyncio.wait_for(self._server.wait_started(self._serving), _START_TIMEOUT)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.core.stop()
        self._server.end()
        if self._serving is not None:
            done, _ = await asyncio.wait([self._serving], timeout=_STOP_TIMEOUT)
            if not done:
                self._server.force_exit = True
                await asyncio.wait([self._serving], timeout=_STOP_TIMEOUT)
                self._serving.cancel()
        await self.core.__aexit__(kind, error, traceback)


@contextlib.asynccontextmanager
async def running(*engines: SimulatedEngine) -> AsyncIterator[None]:
    """Enters all engines at once and leaves them at once; each takes a while by itself. Raises
    what one of them could not start for, when those that did have stopped."""
    started = await asyncio.gather(
        *(engine.__aenter__() for engine in engines), return_exceptions=True
    )
    try:
        for outcome in started:
            if isinstance(outcome, BaseException):
                raise outcome
        yield
    finally:
        await asyncio.gather(
            *(
                engine.__aexit__(None, None, None)
                for engine, outcome in zip(engines, started, strict=True)
                if not isinstance(outcome, BaseException)
            )
        )


class _Server(uvicorn.Server):
    """uvicorn without its hold on the process's signals, which ends when it is told to."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ending = asyncio.Event()

    def end(self) -> None:
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        ticks = 0
        while not await self.on_tick(ticks):  # once in ten it writes the date anew
            ticks += 1
            await within(self._ending, _TICK)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def wait_started(self, serving: asyncio.Task[None]) -> None:
        while not self.started:
            if serving.done():
                raise EngineError("http: the server ended before it had started")
            await asyncio.sleep(0.005)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener

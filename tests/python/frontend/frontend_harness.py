"""A frontend in this process and event loop, and engines that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import uvicorn
from fake_router import FakeRouter
from kvroute.frontend import FrontendApp, Settings, create_app
from kvroute.frontend.http_protocol import bounded_protocol


@dataclass
class EngineRequest:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    async def left(self) -> None:
        """Returns when the peer has closed the connection."""
        while await self.reader.read(1024):
            pass


Handler = Callable[[EngineRequest], Awaitable[None]]


@dataclass
class FakeEngine:
    """An HTTP server on a raw socket whose handler writes what it likes."""

    handler: Handler
    requests: list[EngineRequest] = field(default_factory=list)
    connections: int = 0
    url: str = ""
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def __aenter__(self) -> FakeEngine:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = self.connections
        self._writers.append(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                method, path, _ = head[0].split(" ")
                headers = {
                    name.lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in head[1:] if line)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                request = EngineRequest(method, path, headers, body, writer, reader, connection)
                self.requests.append(request)
                await self.handler(request)
                await writer.drain()
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def answer(
    body: bytes | dict[str, Any] = b'{"ok": true}',
    *,
    status: str = "200 OK",
    headers: dict[str, str] | None = None,
) -> bytes:
    """A whole HTTP answer."""
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    if "Content-Type" not in (headers or {}):
        lines.append("Content-Type: application/json")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def replies(data: bytes | Callable[[EngineRequest], bytes]) -> Handler:
    """A handler that answers /v1 requests with `data`, and /tokenize with 404."""

    async def handler(request: EngineRequest) -> None:
        if request.path == "/tokenize":
            request.writer.write(answer(b"{}", status="404 Not Found"))
        else:
            request.writer.write(data(request) if callable(data) else data)

    return handler


class Frontend:
    """The frontend under test, its fake router, and a client."""

    def __init__(self, app: FrontendApp, url: str, client: aiohttp.ClientSession) -> None:
        self.app = app
        self.url = url
        self.client = client

    @property
    def router(self) -> FakeRouter:
        assert self.app.services is not None
        (group,) = self.app.services.fleet.groups.values()
        router: FakeRouter = group.router  # type: ignore[assignment]
        return router

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of one's own to the frontend."""
        host, port = self.url.removeprefix("http://").split(":")
        return await asyncio.open_connection(host, int(port))

    def completion(self, body: Any = None, **options: Any) -> Any:
        return self._post("/v1/completions", {"model": "m", "prompt": [1, 2, 3]}, body, options)

    def chat(self, body: Any = None, **options: Any) -> Any:
        messages = [{"role": "user", "content": "hello"}]
        return self._post(
            "/v1/chat/completions", {"model": "m", "messages": messages}, body, options
        )

    def _post(self, path: str, defaults: dict[str, Any], body: Any, options: Any) -> Any:
        if not isinstance(body, bytes):
            body = json.dumps({**defaults, **(body or {})}).encode()
        return self.client.post(self.url + path, data=io.BytesIO(body), **options)

    async def metric(self, name: str, **labels: str) -> float:
        """The sum over the samples of this name that carry these labels."""
        from prometheus_client.parser import text_string_to_metric_families

        async with self.client.get(self.url + "/metrics") as response:
            text = await response.text()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def nothing_booked(self) -> None:
        """Returns when no reservation is left; fails after five seconds."""
        while self.router.stats().reservations:
            self.router.released.clear()
            await asyncio.wait_for(self.router.released.wait(), 5)


class QuietServer(uvicorn.Server):
    """Leaves the process's signals alone, says when its startup is over, ends when told to."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.startup_over = asyncio.Event()
        self._ending = asyncio.Event()

    def end(self) -> None:
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._ending.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.startup_over.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def running_app(app: Any, *, head_timeout: float = 30.0) -> AsyncIterator[str]:
    """Serves an ASGI application on a port of the system's choice; gives its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = QuietServer(
        uvicorn.Config(
            app,
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
            http=bounded_protocol(4000, head_timeout),
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        ready = asyncio.create_task(server.startup_over.wait())
        await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if not server.started:
            raise RuntimeError("the application did not start")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.end()
        await task
        listener.close()


@contextlib.asynccontextmanager
async def running_frontend(
    *backends: str, make_router: Any = FakeRouter, head_timeout: float = 30.0, **settings: Any
) -> AsyncIterator[Frontend]:
    """A frontend before these engines; their model is "m" unless said otherwise. Their metrics are
    not read unless `engine_stats_interval` says so."""
    defaults = {
        "static_backends": list(backends),
        "static_models": ["m"],
        "engine_stats_interval": 0,
    }
    app = create_app(Settings(**{**defaults, **settings}), make_router=make_router)
    async with (
        running_app(app, head_timeout=head_timeout) as url,
        aiohttp.ClientSession() as client,
    ):
        yield Frontend(app, url, client)

"""A frontend in this process and event loop, a router that counts, and engines that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import aiohttp
import uvicorn
from kvroute import Overloaded
from kvroute.frontend import FrontendApp, Settings, create_app
from kvroute.frontend.http_protocol import bounded_protocol


class FakeReservation:
    def __init__(self, router: FakeRouter, choice: Any, request_id: str, ids: list[int]) -> None:
        self.choice = choice
        self.request_id = request_id
        self.token_ids = ids
        self.first_tokens = 0
        self.output_tokens = 0
        self._router = router

    def first_token(self) -> None:
        self.first_tokens += 1

    def progress(self, output_tokens: int) -> None:
        self.output_tokens = output_tokens

    def release(self) -> None:
        self._router.running.pop(self.request_id, None)
        self._router.released.set()


class FakeRouter:
    """Chooses the allowed worker that was chosen least; keeps what it was asked."""

    def __init__(self, block_size: int, policy: Any, **options: Any) -> None:
        self.options = options
        self.block_size = block_size
        self.policy = policy
        self.workers: dict[str, dict[str, Any]] = {}
        self.chosen: dict[str, int] = {}
        self.running: dict[str, FakeReservation] = {}
        self.reservations: list[FakeReservation] = []
        self.calls: list[dict[str, Any]] = []
        self.released = asyncio.Event()
        self.dp_rank = 0
        self.room = 1 << 20
        self.closed = False
        self.loads: dict[tuple[str, int], dict[str, Any]] = {}
        self.reported = asyncio.Event()

    def add_worker(self, worker: str, **options: Any) -> None:
        self.workers[worker] = options
        self.chosen[worker] = 0

    def reserve(
        self,
        token_ids: array[int],
        request_id: str,
        expected_output_tokens: int | None = None,
        allowed: list[Any] | None = None,
        *,
        session_id: str | None = None,
        salt: str | None = None,
        namespace: str | None = None,
    ) -> FakeReservation:
        self.calls.append(
            {
                "token_ids": list(token_ids),
                "allowed": allowed,
                "expected": expected_output_tokens,
                "session": session_id,
                "salt": salt,
                "namespace": namespace,
            }
        )
        assert request_id not in self.running
        if not (isinstance(token_ids, array) and token_ids.typecode == "I" and token_ids):
            raise ValueError(f"token_ids: expected unsigned integers, got {token_ids!r:.80}")
        candidates = list(self.workers) if allowed is None else allowed
        if len(self.running) >= self.room:
            raise Overloaded("all are over their thresholds")
        if not candidates:
            raise RuntimeError("no workers")
        targets = [
            entry if isinstance(entry, tuple) else (entry, self.dp_rank) for entry in candidates
        ]
        worker, dp_rank = min(targets, key=lambda target: self.chosen[target[0]])
        self.chosen[worker] += 1
        choice = SimpleNamespace(
            worker=worker,
            dp_rank=dp_rank,
            cached_tokens=32,
            prefill_tokens=len(token_ids),
            rule="spread",
        )
        reservation = FakeReservation(self, choice, request_id, list(token_ids))
        self.running[request_id] = reservation
        self.reservations.append(reservation)
        self.released.clear()
        return reservation

    def explain(
        self,
        token_ids: array[int],
        allowed: list[str] | None = None,
        *,
        session_id: str | None = None,
        salt: str | None = None,
    ) -> Any:
        assert allowed is None
        assert session_id is None
        assert salt is None
        targets = [
            SimpleNamespace(
                worker=name,
                dp_rank=0,
                eligible=True,
                reason="",
                cost=1.5,
                cached_tokens=16,
                terms={"overlap": 1.0},
            )
            for name in self.workers
        ]
        return SimpleNamespace(
            policy=self.policy, rule="spread", num_tokens=len(token_ids), targets=targets
        )

    def recent_decisions(self, limit: int) -> list[Any]:
        """Of each reservation, the oldest first."""
        return [
            SimpleNamespace(
                time=time.monotonic() - 5,
                request_id=reservation.request_id,
                worker=reservation.choice.worker,
                dp_rank=reservation.choice.dp_rank,
                explanation=self.explain(array("I", reservation.token_ids)),
            )
            for reservation in self.reservations[-limit:]
        ]

    def set_policy(self, policy: Any) -> None:
        self.policy = policy

    def overlaps(self, token_ids: array[int], *, salt: str | None = None) -> dict[Any, int]:
        assert salt is None
        return {(name, 0): len(token_ids) // 2 for name in self.workers}

    def update_load(self, worker: str, dp_rank: int = 0, **figures: Any) -> None:
        assert worker in self.workers
        self.loads[worker, dp_rank] = figures
        self.reported.set()

    def stats(self) -> Any:
        targets = [
            SimpleNamespace(
                worker=name,
                dp_rank=0,
                active_requests=0,
                active_prefill_tokens=0,
                active_blocks=0,
                held_blocks=3,
                waiting=None,
                running=2,
                kv_usage=0.5,
                selections=count,
                events={"gaps": 2, "last_sequence": -1},
            )
            for name, count in self.chosen.items()
        ]
        index = SimpleNamespace(
            block_size=16,
            blocks=1,
            held=2,
            held_lower=6,
            predicted=1,
            waiting=5,
            nodes=3,
            bytes=4,
            bytes_by_kind={"waiting": 1, "nodes": 3},
            counters={"adopted": 7},
            forgotten=5,
        )
        return SimpleNamespace(
            targets=targets,
            indexes=[index],
            reservations=len(self.running),
            expired_reservations=0,
        )

    def close(self) -> None:
        self.closed = True


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
    """Leaves the process's signals alone, and says when its startup is over."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.startup_over = asyncio.Event()

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
        server.should_exit = True
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

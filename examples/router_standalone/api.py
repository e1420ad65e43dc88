"""The OpenAI frontend of the standalone example: starts the engines and the router, and serves.

    python api.py --num-workers 2

Each request is turned into block hashes, the router names a worker, and the request goes there
unchanged; the answer's header x-kvroute-worker tells which one it was.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kvroute
import orjson
from fastapi import FastAPI, Request, Response
from kvroute.tokenization import Tokenizer
from processes import ChildProcess
from prompts import BadPromptError, PromptTokens
from relay import ClientGoneError, RelayedStream, error_body, until_client_leaves
from router_client import RouterClient, RouterUnavailableError
from serving import BodyLimit, add_port_flags, serve
from worker import ENGINES, EngineAnswer, EngineRequest, EngineUnavailableError, VllmWorkers

MAX_BODY_BYTES = 32 * 2**20
ROUTER_START_SECONDS = 30.0


@dataclass(frozen=True)
class ServingParams:
    """What the command line says. `router_port` 0 lets the system choose; `start_router` False
    uses a router that somebody else runs there."""

    model: str = "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"
    block_size: int = 64
    num_workers: int = 2
    base_kv_events_port: int = 5557
    base_metrics_port: int = 5657
    router_port: int = 7000
    http_port: int = 8000
    base_kv_replay_port: int = 5757
    host: str = "127.0.0.1"
    tokenizer: str | None = None
    engine: str = "auto"
    speed: float = 1.0
    start_router: bool = True


class ServiceAPI:
    """POST /v1/chat/completions and /v1/completions, routed; /tokenize, /v1/models, /health.

    Errors have OpenAI's shape: 400 for a request without a prompt, 502 for a dead engine, 503 for
    a dead router.
    """

    def __init__(self, init_params: ServingParams) -> None:
        params = self.init_params = init_params
        self.workers = VllmWorkers(
            model=params.model,
            block_size=params.block_size,
            base_kv_events_port=params.base_kv_events_port,
            base_metrics_port=params.base_metrics_port,
            num_workers=params.num_workers,
            base_kv_replay_port=params.base_kv_replay_port,
            host=params.host,
            engine=params.engine,
            tokenizer=params.tokenizer,
            speed=params.speed,
        )
        tokenizer = Tokenizer.from_directory(params.tokenizer) if params.tokenizer else None
        self.prompts = PromptTokens(self.workers, tokenizer)
        self.router = RouterClient(f"http://{params.host}:{params.router_port}")
        self.router_process: ChildProcess | None = None
        self.announcement: dict[str, Any] = {}
        self.app = FastAPI(title="kvroute standalone example", lifespan=self._lifespan)
        self.setup_routes()

    def setup_routes(self) -> None:
        self.app.add_middleware(BodyLimit, max_bytes=MAX_BODY_BYTES)

        @self.app.post("/v1/chat/completions")
        async def chat_completions(request: Request) -> Response:
            return await self._answer(request, chat=True)

        @self.app.post("/v1/completions")
        async def completions(request: Request) -> Response:
            return await self._answer(request, chat=False)

        @self.app.post("/tokenize")
        async def tokenize(request: Request) -> Response:
            question = EngineRequest("/tokenize", await request.body())
            try:
                answer = await self.workers.direct_to_any(question)
                return Response(await answer.read(), answer.status, None, answer.media_type)
            except EngineUnavailableError as error:
                return _error(502, "engine_unavailable", str(error))

        @self.app.get("/v1/models")
        async def models() -> dict[str, Any]:
            model = {"id": self.init_params.model, "object": "model", "owned_by": "kvroute"}
            return {"object": "list", "data": [model]}

        @self.app.get("/health")
        async def health() -> dict[str, Any]:
            router = self.router_process
            return {
                "status": "ok",
                "router_running": None if router is None else router.running,
                "workers_running": {i: p.running for i, p in self.workers.processes.items()},
            }

    async def initialize_services(self) -> None:
        """Starts the engines and, unless told otherwise, the router. Raises StartError."""
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self.shutdown)
            await self.workers.initialize()
            await self.router.open()
            if self.init_params.start_router:
                await self._start_router()
            undo.pop_all()
        router = self.router_process
        self.announcement["router"] = {"http": self.router.url, "pid": router and router.pid}
        self.announcement["workers"] = [
            {"http": url, "pid": self.workers.processes[worker_id].pid}
            for worker_id, url in enumerate(self.workers.urls)
        ]

    async def start(self) -> bool:
        """Serves until a signal; False if it could not start."""
        return await serve(
            self.app, self.init_params.host, self.init_params.http_port, self.announcement
        )

    async def shutdown(self) -> None:
        """Ends the engines and the router."""
        await self.router.close()
        if self.router_process is not None:
            await self.router_process.stop()
        await self.workers.shutdown()

    async def _answer(self, request: Request, chat: bool) -> Response:
        content = await request.body()
        try:
            answer, body, worker_id = await until_client_leaves(
                request, self._route_and_send(request.url.path, content, chat)
            )
        except BadPromptError as error:
            return _error(400, "invalid_request_error", str(error))
        except RouterUnavailableError as error:
            return _error(503, "service_unavailable", str(error))
        except EngineUnavailableError as error:
            return _error(502, "engine_unavailable", str(error))
        except ClientGoneError:
            return Response(status_code=499)
        headers = {"x-kvroute-worker": str(worker_id)}
        if body is None:
            return RelayedStream(answer, headers)
        return Response(body, answer.status, headers, answer.media_type)

    async def _route_and_send(
        self, path: str, content: bytes, chat: bool
    ) -> tuple[EngineAnswer, bytes | None, int]:
        """The engine's answer, its body unless that is a stream, and the worker's number."""
        body = _parsed(content)
        token_ids = await (self.prompts.of_chat(body) if chat else self.prompts.of_completion(body))
        if not token_ids:
            raise BadPromptError("prompt: expected at least one token")
        local_hashes = kvroute.hash_blocks(
            token_ids, self.init_params.block_size, salt=body.get("cache_salt")
        )
        worker_id = await self.router.find_best_worker(local_hashes, len(token_ids))
        if not 0 <= worker_id < len(self.workers.urls):
            raise RouterUnavailableError(f"the router named worker {worker_id}, which is not ours")
        answer = await self.workers.direct(EngineRequest(path, content), worker_id)
        if answer.streamed:
            return answer, None, worker_id
        try:
            return answer, await answer.read(), worker_id
        finally:
            answer.close()

    async def _start_router(self) -> None:
        params = self.init_params
        command = [sys.executable, str(Path(__file__).with_name("router.py"))]
        command += ["--host", params.host, "--port", str(params.router_port)]
        command += ["--num-workers", str(params.num_workers)]
        command += ["--block-size", str(params.block_size)]
        command += ["--base-kv-events-port", str(params.base_kv_events_port)]
        command += ["--base-kv-replay-port", str(params.base_kv_replay_port)]
        command += ["--base-metrics-port", str(params.base_metrics_port)]
        self.router_process = await ChildProcess.start("router", command)
        ready = await self.router_process.ready_line(ROUTER_START_SECONDS)
        self.router.url = ready["http"]

    @asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        await self.initialize_services()
        try:
            yield
        finally:
            await self.shutdown()


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise BadPromptError(f"body: expected JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadPromptError(f"body: expected an object, got {type(body).__name__}")
    if not isinstance(body.get("cache_salt"), str | None):
        raise BadPromptError("cache_salt: expected a string")
    return body


def _error(status: int, kind: str, message: str) -> Response:
    return Response(error_body(status, kind, message), status, media_type="application/json")


def main() -> None:
    defaults = ServingParams()
    parser = argparse.ArgumentParser(description="kvroute's standalone example")
    parser.add_argument("--model", default=defaults.model, help="the model's name")
    add_port_flags(parser)
    parser.add_argument("--router-port", type=int, default=7000, help="0 takes a free one")
    parser.add_argument("--http-port", type=int, default=8000, help="0 takes a free one")
    parser.add_argument("--tokenizer", help="directory with tokenizer.json; else engines tokenize")
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="auto: vLLM if installed")
    parser.add_argument("--speed", type=float, default=1.0, help="of simulated engines")
    parser.add_argument(
        "--no-router",
        dest="start_router",
        action="store_false",
        help="use the router.py that runs on --router-port instead of starting one",
    )
    params = ServingParams(**vars(parser.parse_args()))
    with suppress(KeyboardInterrupt):
        sys.exit(0 if asyncio.run(ServiceAPI(params).start()) else 1)


if __name__ == "__main__":
    main()

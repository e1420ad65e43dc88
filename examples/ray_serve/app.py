"""A plain Ray Serve application with KV-aware routing: FastAPI, kvroute, replicas with engines.

    python app.py [--replicas 4] [--ingress-replicas 2] [--port 8000] [--policy kv_cost]
                  [--vllm MODEL_DIRECTORY] [--address auto]

The replicas have simulated engines, which need no GPU, or vLLM's. It prints a line to try, and runs
until Ctrl-C.
"""

import argparse
import os
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from fastapi import Body, FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from kvroute.engines import EmbeddedEngine
from kvroute.engines.byte_tokenizer import ByteTokenizer
from kvroute.engines.errors import RequestRefusedError
from kvroute.ray_serve import KvRouteReplica, add_error_handlers, router_config, stream
from ray import serve
from ray.serve.handle import DeploymentHandle

BLOCK_SIZE = 16

api = FastAPI(title="kvroute on Ray Serve")
add_error_handlers(api)  # no token ids where they must be: 400; no router: 503


@api.exception_handler(RequestRefusedError)
async def refuse(_request: Request, error: Exception) -> JSONResponse:
    """The engine cannot serve such a request."""
    cause = getattr(error, "cause", error)  # Ray wraps what another process raised
    return JSONResponse({"error": {"message": str(cause), "code": 400}}, 400)


class SimulatedModel(KvRouteReplica):
    """A replica with a simulated engine inside, whose KV events the routers hear."""

    async def __init__(self) -> None:  # type: ignore[misc]  # Serve awaits it
        self._engine = EmbeddedEngine(
            block_size=BLOCK_SIZE, kv_events="tcp://*:0", kv_replay="tcp://*:0"
        )
        await self._engine.__aenter__()
        self.kvroute_engine(self._engine.kv_events, self._engine.kv_replay, block_size=BLOCK_SIZE)

    def kvroute_load(self) -> dict[str, float]:
        return self._engine.load

    async def generate(
        self, body: dict[str, Any], request_token_ids: Any = None
    ) -> AsyncIterator[bytes]:
        """Server-sent events for a body that streams, else the one answer."""
        async for part in self._engine.answer(body, request_token_ids):
            yield part


@serve.ingress(api)
class Ingress:
    """Tokenizes, and calls the model with the token ids: kvroute chooses the replica by them."""

    def __init__(self, model: DeploymentHandle, tokenizer_directory: str | None) -> None:
        self._model = model.options(stream=True)
        if tokenizer_directory is None:
            self._tokenizer: Any = ByteTokenizer()
        else:
            from pathlib import Path

            from kvroute.engines.model_tokenizer import ModelTokenizer

            self._tokenizer = ModelTokenizer(Path(tokenizer_directory))

    @api.post("/v1/completions")
    async def completions(self, body: dict[str, Any] = Body()) -> Response:  # noqa: B008
        prompt = body.get("prompt")
        ids = self._tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        return await self._answer(body, ids)

    @api.post("/v1/chat/completions")
    async def chat(self, body: dict[str, Any] = Body()) -> Response:  # noqa: B008
        return await self._answer(body, self._tokenizer.encode_chat(body.get("messages") or []))

    async def _answer(self, body: dict[str, Any], ids: Any) -> Response:
        parts = await stream(self._model.generate, body, token_ids=ids).opened()
        if body.get("stream"):
            return StreamingResponse(parts, media_type="text/event-stream")
        return Response(b"".join([part async for part in parts]), media_type="application/json")


def application(arguments: argparse.Namespace) -> serve.Application:
    """The ingress before the model's replicas."""
    model: Any = SimulatedModel
    resources: dict[str, float] = {"num_cpus": 0.1}
    model_arguments: tuple[Any, ...] = ()
    if arguments.vllm is not None:
        from vllm_model import VllmModel

        model, resources, model_arguments = VllmModel, {"num_gpus": 1}, (arguments.vllm,)
    deployment = serve.deployment(
        model,
        name="Model",
        num_replicas=arguments.replicas,
        max_ongoing_requests=256,
        ray_actor_options=resources,
        request_router_config=router_config(policy=arguments.policy),
    )
    ingress = serve.deployment(
        Ingress,
        num_replicas=arguments.ingress_replicas,
        max_ongoing_requests=1024,
        ray_actor_options={"num_cpus": 0.1},
    )
    return ingress.bind(deployment.bind(*model_arguments), arguments.vllm)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="KV-aware routing in a plain Serve application")
    parser.add_argument("--replicas", type=int, default=4, help="of the model")
    parser.add_argument("--ingress-replicas", type=int, default=2)
    parser.add_argument("--port", type=int, default=8000, help="of the HTTP proxy")
    parser.add_argument("--policy", default="kv_cost", help="see docs/policies.md")
    parser.add_argument("--vllm", metavar="DIRECTORY", help="serve this model with vLLM")
    parser.add_argument("--address", default="local", help="of a Ray cluster; local starts one")
    return parser.parse_args(arguments)


def main() -> None:
    arguments = parse()
    with socket.socket() as probe:  # Serve would wait for a port that another has
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", arguments.port))
    stops = {signal.SIGINT, signal.SIGTERM}
    ray.init(address=arguments.address, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": arguments.port})
        serve.run(application(arguments), name="kvroute-example")
        url = f"http://127.0.0.1:{arguments.port}"
        print(
            f"Ready. Twice, and the second answer's usage tells its cached tokens:\n\n{curl(url)}",
            flush=True,
        )
        signal.pthread_sigmask(signal.SIG_BLOCK, stops)
        signal.sigwait(stops)
    finally:
        serve.shutdown()
        ray.shutdown()


def curl(url: str) -> str:
    """A command to try."""
    body = (
        '{"prompt": "Once upon a time there was a router that knew which engine had read this '
        'before.", "max_tokens": 16, "stream": true, "stream_options": {"include_usage": true}}'
    )
    return f"curl -N {url}/v1/completions -H 'Content-Type: application/json' -d '{body}'\n"


if __name__ == "__main__":
    main()

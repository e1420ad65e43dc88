"""The application that the cluster tests deploy: an ingress before replicas with engines inside.

Imported by name in Ray's processes too: the harness puts this folder on their path. What needs the
native module is imported where it is used: one test's ingress has none.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from kvroute.ray_serve import KvRouteReplica, add_error_handlers, call, stream
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.responses import StreamingResponse

BLOCK_SIZE = 16

api = FastAPI()
add_error_handlers(api)


class Model(KvRouteReplica):
    """A replica with a simulated engine inside. Its answers say which replica gave them."""

    async def __init__(self, speed: float = 50.0, num_blocks: int = 4096) -> None:
        from kvroute.engines import CostModel, EmbeddedEngine

        self._engine = EmbeddedEngine(
            block_size=BLOCK_SIZE, num_blocks=num_blocks, cost=CostModel(speed=speed)
        )
        await self._engine.__aenter__()
        self.kvroute_engine(
            kv_events=self._engine.kv_events,
            kv_replay=self._engine.kv_replay,
            block_size=BLOCK_SIZE,
            total_blocks=num_blocks,
        )
        self._who = {
            "replica": serve.get_replica_context().replica_id.unique_id,
            "pid": os.getpid(),
        }

    def kvroute_load(self) -> dict[str, float]:
        return self._engine.load

    async def generate(self, body: dict[str, Any], request_token_ids: Any = None) -> dict[str, Any]:
        """The whole answer's figures: which replica, how many tokens it had cached."""
        (answer,) = [part async for part in self._engine.answer(body, request_token_ids or None)]
        usage = json.loads(answer)["usage"]
        return {
            **self._who,
            "cached": usage["prompt_tokens_details"]["cached_tokens"],
            "tokens": usage["completion_tokens"],
        }

    async def generate_stream(
        self, body: dict[str, Any], request_token_ids: Any = None
    ) -> AsyncIterator[dict[str, Any]]:
        """An item for each chunk."""
        async for part in self._engine.answer({**body, "stream": True}, request_token_ids):
            yield {**self._who, "chunk": part.decode()}

    async def hold(
        self,
        seconds: float,
        request_token_ids: Any = None,  # noqa: ARG002  # the router reads it
    ) -> dict[str, Any]:
        """Takes a while."""
        await asyncio.sleep(seconds)
        return self._who

    async def compute(
        self,
        prompt: list[int],
        request_token_ids: Any = None,  # noqa: ARG002  # the router reads it
    ) -> dict[str, Any]:
        """Has the engine compute a prompt that no router has seen."""
        return await self.generate({"prompt": prompt, "max_tokens": 1})

    async def clear(
        self,
        request_token_ids: Any = None,  # noqa: ARG002  # the router reads it
    ) -> dict[str, Any]:
        """Drops the engine's cache, and says so in an event."""
        assert self._engine.core.reset_prefix_cache()
        return self._who


async def _lines(items: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    # Before the class: what its decorator pickles is what there is until then.
    async for item in items:
        yield json.dumps(item).encode() + b"\n"


@serve.ingress(api)
class Ingress:
    """Routes what it is sent: HTTP in front, the model's handle behind."""

    def __init__(self, model: DeploymentHandle) -> None:
        self._model = model
        self._second: DeploymentHandle | None = None

    @api.post("/generate")
    async def generate(self, request: Request) -> Any:
        """`ids`, and an OpenAI body; a line for each item of a stream."""
        body = await request.json()
        ids = body.pop("ids", None)
        if body.get("stream"):
            handle = self._model.options(stream=True).generate_stream
            items = await stream(handle, body, token_ids=ids).opened()
            return StreamingResponse(_lines(items), media_type="application/x-ndjson")
        return await call(self._model.generate, body, token_ids=ids)

    @api.post("/call")
    async def call(self, request: Request) -> Any:
        """Any `method` of the model with `arguments`, routed by `ids`."""
        body = await request.json()
        method = getattr(self._model, body["method"])
        return await call(method, *body["arguments"], token_ids=body["ids"])

    @api.post("/each")
    async def each(self, request: Request) -> Any:
        """One handle call for each of `prompts`, all at once inside this one HTTP request.

        With `second`, on another handle of the same deployment."""
        body = await request.json()
        model = self._other_handle() if body["second"] else self._model
        calls = (call(model.hold, body["seconds"], token_ids=ids) for ids in body["prompts"])
        return await asyncio.gather(*calls)

    def _other_handle(self) -> DeploymentHandle:
        if self._second is None:
            name = serve.get_replica_context().app_name
            self._second = serve.get_deployment_handle("Model", name)
        return self._second

    @api.get("/state")
    async def state(self) -> dict[str, Any]:
        """What the routers of this process know."""
        from kvroute.ray_serve import snapshots

        return {"pid": os.getpid(), "deployments": snapshots()}

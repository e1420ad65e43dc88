"""A Serve application of simulated engines: FastAPI ingress, the router under test, replicas.

The same for every router. A prompt comes as token ids; beside them travels a text of four
characters a token, as a real prompt's would, whose prefixes are equal where those of the ids are:
Ray's prefix router looks at it, and at nothing else.
"""

# Serve pickles an ingress's methods without the names that only postponed annotations mention.
# ruff: noqa: I002

from array import array
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from kvroute.engines import CostModel, EmbeddedEngine
from kvroute.ray_serve import KvRouteReplica, call, stream
from ray import serve
from ray.serve.config import RequestRouterConfig
from ray.serve.handle import DeploymentHandle

MODEL = "simulated"
WORKER_HEADER = "x-kvroute-worker"
MAX_ONGOING_ENGINE = 256  # as many as a simulated engine runs at once
MAX_ONGOING_INGRESS = 4096
face = FastAPI()


@dataclass(frozen=True, slots=True)
class Question:
    """A completion's body without its prompt, and the prompt's text, which Ray's prefix router
    reads."""

    prompt: str
    body: dict[str, Any]

    @property
    def max_tokens(self) -> int:
        """Of the answer; kvroute's router reads it."""
        return int(self.body["max_tokens"])


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What all engines are. `speed` divides every duration of the default cost model."""

    num_blocks: int
    block_size: int
    speed: float
    tokens_per_chunk: int


def text_of(token_ids: "array[int]") -> str:
    """Four characters a token (ids below 65,536); equal prefixes where the ids' are equal."""
    return array("H", token_ids).tobytes().hex()


class Engine(KvRouteReplica):
    """A simulated engine in the replica's process; its events go out over ZMQ."""

    async def __init__(  # type: ignore[misc]  # Serve awaits a constructor
        self, settings: EngineSettings
    ) -> None:
        self._engine = await EmbeddedEngine(
            model=MODEL,
            block_size=settings.block_size,
            num_blocks=settings.num_blocks,
            tokens_per_chunk=settings.tokens_per_chunk,
            cost=CostModel(speed=settings.speed),
        ).__aenter__()
        self._name = serve.get_replica_context().replica_id.unique_id
        load_events = self._engine.core.load_events
        assert load_events is not None
        self.kvroute_engine(
            kv_events=self._engine.kv_events,
            kv_replay=self._engine.kv_replay,
            load_events=load_events.endpoint,
            block_size=settings.block_size,
            total_blocks=settings.num_blocks,
        )

    async def answer(
        self, question: Question, request_token_ids: "array[int]"
    ) -> tuple[str, bytes]:
        """The replica's name and the whole answer."""
        parts = [part async for part in self._engine.answer(question.body, request_token_ids)]
        return self._name, b"".join(parts)

    async def stream(
        self, question: Question, request_token_ids: "array[int]"
    ) -> AsyncIterator[tuple[str, bytes]]:
        """The replica's name and the next server-sent events, as they come."""
        async for events in self._engine.answer(question.body, request_token_ids):
            yield self._name, events

    async def metrics(self) -> str:
        """Its engine's metrics, as Prometheus reads them."""
        return self._engine.core.metrics.text().decode()


async def _bodies(first: bytes, rest: AsyncIterator[tuple[str, bytes]]) -> AsyncIterator[bytes]:
    yield first
    async for _, events in rest:
        yield events


@serve.ingress(face)
class Ingress:
    """`/v1/completions` for prompts of token ids; names the replica in a header.

    Calls the engine as any Serve application does, or, `with_helper`, through kvroute's helper,
    which also tells its router of the first token.
    """

    def __init__(self, engine: DeploymentHandle, with_helper: bool) -> None:
        self._engine = engine
        self._answer = engine.answer
        self._stream = engine.options(stream=True).stream
        self._with_helper = with_helper

    @face.post("/v1/completions")
    async def complete(self, request: Request) -> Response:
        body = orjson.loads(await request.body())
        token_ids = array("I", body.pop("prompt"))
        question = Question(text_of(token_ids), {**body, "model": MODEL})
        if body.get("stream"):
            parts = self._call_stream(question, token_ids)
            worker, first = await anext(parts)
            events = _bodies(first, parts)
            return StreamingResponse(events, 200, {WORKER_HEADER: worker}, "text/event-stream")
        worker, answer = await self._call(question, token_ids)
        return Response(answer, 200, {WORKER_HEADER: worker}, "application/json")

    @face.get("/engines")
    async def engines(self) -> list[str]:
        """Every engine's metrics."""
        return list(await self._engine.broadcast("metrics").results_async())

    async def _call(self, question: Question, token_ids: "array[int]") -> tuple[str, bytes]:
        if self._with_helper:
            answered = call(self._answer, question, token_ids=token_ids)
        else:
            answered = self._answer.remote(question, request_token_ids=token_ids)
        worker, answer = await answered
        return worker, answer

    def _call_stream(
        self, question: Question, token_ids: "array[int]"
    ) -> AsyncIterator[tuple[str, bytes]]:
        if self._with_helper:
            return aiter(stream(self._stream, question, token_ids=token_ids))
        return aiter(self._stream.remote(question, request_token_ids=token_ids))


def application(
    settings: EngineSettings,
    router: RequestRouterConfig,
    *,
    engines: int,
    ingresses: int,
    with_helper: bool,
) -> Any:
    """What `serve.run` takes."""
    engine = serve.deployment(
        Engine,
        num_replicas=engines,
        max_ongoing_requests=MAX_ONGOING_ENGINE,
        graceful_shutdown_timeout_s=1,
        ray_actor_options={"num_cpus": 0},
        request_router_config=router,
    )
    ingress = serve.deployment(
        Ingress,
        num_replicas=ingresses,
        max_ongoing_requests=MAX_ONGOING_INGRESS,
        graceful_shutdown_timeout_s=1,
        ray_actor_options={"num_cpus": 0},
    )
    return ingress.bind(engine.bind(settings), with_helper)

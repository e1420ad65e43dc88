"""The OpenAI-compatible HTTP face of a simulated engine, as a raw ASGI application."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from kvroute._core import __version__
from kvroute.engines.answering import Answer, unless_gone
from kvroute.engines.core import EngineCore
from kvroute.engines.debug_http import DebugRoutes
from kvroute.engines.errors import EngineBusyError, EngineStoppedError, RequestRefusedError
from kvroute.engines.http_exchange import (
    BodyTooLargeError,
    ClientGoneError,
    Exchange,
    Receive,
    Send,
)
from kvroute.engines.openai_requests import (
    GenerationRequest,
    parse_chat,
    parse_completion,
    parse_json,
    tokenize_ids,
)
from kvroute.engines.openai_responses import DONE, error_body
from kvroute.engines.output_text import Tokenizer
from kvroute.engines.submission import submit
from kvroute.engines.transfer.faults import DroppedError, FaultError
from kvroute.engines.transfer.role import Call, Leg
from kvroute.engines.transfer.side_channel import TransferFailedError


class OpenAiApp:
    """Routes requests to an engine. Errors are answered in OpenAI's shape, naming the field.

    A request that sets no limit is answered to where the text ends by itself, after 64 tokens in
    the mean, or while there is room; otherwise the answer has as many tokens as asked for (16 for a
    completion that says nothing of ``max_tokens``). ``stop``, ``stop_token_ids``, ``min_tokens``
    and ``logprobs`` are heeded. Sampling parameters other than ``seed`` are accepted and change
    nothing.
    """

    def __init__(self, core: EngineCore) -> None:
        self._core = core
        self._created = int(time.time())
        self._routes: dict[tuple[str, str], Callable[[Exchange], Awaitable[None]]] = {
            ("POST", "/v1/completions"): self._completions,
            ("POST", "/v1/chat/completions"): self._chat,
            ("POST", "/tokenize"): self._tokenize,
            ("POST", "/detokenize"): self._detokenize,
            ("GET", "/v1/models"): self._models,
            ("GET", "/health"): self._health,
            ("GET", "/ping"): self._health,
            ("GET", "/version"): self._show_version,
            ("GET", "/metrics"): self._metrics,
            ("POST", "/reset_prefix_cache"): self._reset_prefix_cache,
            **DebugRoutes(core.transfers).routes,
        }
        self._paths = {path for _, path in self._routes}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """The ASGI entry; HTTP only."""
        if scope["type"] != "http":
            raise RuntimeError(f"scope: expected http, got {scope['type']}")
        exchange = Exchange(scope, receive, send)
        request_id = exchange.headers.get(b"x-request-id")
        if request_id is not None:
            exchange.extra_headers.append((b"x-request-id", request_id))
        route = self._routes.get((exchange.method, exchange.path))
        try:
            if route is not None:
                await route(exchange)
            elif exchange.path in self._paths:
                await _fail(exchange, 405, "MethodNotAllowedError", "method: not allowed here")
            else:
                await _fail(exchange, 404, "NotFoundError", f"path: no {exchange.path} here")
        except ClientGoneError:
            pass
        except RequestRefusedError as error:
            await _fail(exchange, 400, "BadRequestError", str(error), error.param)
        except BodyTooLargeError:
            await _fail(exchange, 413, "BadRequestError", "body: expected at most 64 MiB")
        except (EngineBusyError, EngineStoppedError) as error:
            await _fail(exchange, 503, "ServiceUnavailableError", str(error))
        except (FaultError, TransferFailedError) as error:
            await _fail(exchange, 500, "InternalServerError", str(error))
        except DroppedError:
            await exchange.drop()

    async def _completions(self, exchange: Exchange) -> None:
        await self._generate(exchange, parse_completion)

    async def _chat(self, exchange: Exchange) -> None:
        await self._generate(exchange, parse_chat)

    async def _generate(
        self,
        exchange: Exchange,
        parse: Callable[[dict[str, Any], Tokenizer], GenerationRequest],
    ) -> None:
        document = await self._document(exchange)
        if document is None:
            return
        progress = asyncio.Event()
        watch = exchange.watch_client(progress.set)
        faults = self._core.transfers.faults
        leg = Leg()
        try:
            await unless_gone(watch, faults.reach("accepted"))
            _check_rank(exchange)
            call = Call(document, parse(document, self._core.tokenizer), _request_id(exchange))
            leg = self._core.transfers.leg(call)
            if leg.is_prefill:
                await unless_gone(watch, faults.reach("prefill"))
            received = await unless_gone(watch, self._core.transfers.receive(leg))
            if not leg.is_prefill:
                await unless_gone(watch, faults.reach("decode_start"))
            generations = submit(self._core, call.request, progress.set, leg, received)
            try:
                answer = Answer(exchange, call, leg, generations, self._core)
                await answer.give(progress, watch)
            finally:
                self._core.abort(generations)
        finally:
            watch.cancel()
            leg.close()

    async def _document(self, exchange: Exchange) -> dict[str, Any] | None:
        document = parse_json(await exchange.read_body())
        model = document.get("model", self._core.config.model)
        if model == self._core.config.model:
            return document
        message = f"model: the model {model!r} does not exist."
        await _fail(exchange, 404, "NotFoundError", message, "model")
        return None

    async def _tokenize(self, exchange: Exchange) -> None:
        document = await self._document(exchange)
        if document is None:
            return
        ids = tokenize_ids(document, self._core.tokenizer)
        answer = {
            "count": len(ids),
            "max_model_len": self._core.scheduler.max_model_len,
            "tokens": ids,
            "token_strs": None,
        }
        await exchange.respond(200, orjson.dumps(answer))

    async def _detokenize(self, exchange: Exchange) -> None:
        document = await self._document(exchange)
        if document is None:
            return
        ids = document.get("tokens")
        if not isinstance(ids, list) or not all(type(one) is int and one >= 0 for one in ids):
            raise RequestRefusedError("tokens: expected a list of token ids", "tokens")
        await exchange.respond(200, orjson.dumps({"prompt": self._core.tokenizer.decode(ids)}))

    async def _models(self, exchange: Exchange) -> None:
        model = {
            "id": self._core.config.model,
            "object": "model",
            "created": self._created,
            "owned_by": "kvroute",
            "root": self._core.config.model,
            "parent": None,
            "max_model_len": self._core.scheduler.max_model_len,
        }
        await exchange.respond(200, orjson.dumps({"object": "list", "data": [model]}))

    async def _health(self, exchange: Exchange) -> None:
        await exchange.respond(200 if self._core.alive else 503, b"{}")

    async def _show_version(self, exchange: Exchange) -> None:
        await exchange.respond(200, orjson.dumps({"version": __version__}))

    async def _metrics(self, exchange: Exchange) -> None:
        metrics = self._core.metrics
        kind = (b"content-type", metrics.content_type.encode())
        await exchange.respond(200, metrics.text(), kind)

    async def _reset_prefix_cache(self, exchange: Exchange) -> None:
        if self._core.reset_prefix_cache():
            await exchange.respond(200, b'{"success":true}')
        else:
            message = "engine: the cache is in use by running requests"
            await _fail(exchange, 409, "ConflictError", message)


def _request_id(exchange: Exchange) -> str:
    return exchange.headers.get(b"x-request-id", b"").decode("latin-1")


def _check_rank(exchange: Exchange) -> None:
    rank = exchange.headers.get(b"x-data-parallel-rank")
    if rank is not None and rank.strip() != b"0":
        shown = rank.decode("latin-1")
        raise RequestRefusedError(
            f"X-data-parallel-rank: expected 0, the only rank here, got {shown!r}",
            "X-data-parallel-rank",
        )


async def _fail(
    exchange: Exchange, status: int, kind: str, message: str, param: str | None = None
) -> None:
    body = error_body(message, kind, status, param)
    if exchange.started:
        await exchange.end(b"data: " + body + b"\n\n" + DONE)
    else:
        await exchange.respond(status, body)

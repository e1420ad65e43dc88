"""A request's token ids: its own, a local tokenizer's, or an engine's."""

from __future__ import annotations

import asyncio
import logging
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson

from kvroute.frontend.engine_tokens import EngineTokens
from kvroute.frontend.fleet import Fleet
from kvroute.frontend.model_group import ModelGroup
from kvroute.frontend.prompts import NO_TOKENS, PromptRequest, TokenIds
from kvroute.frontend.tokenless_watch import TokenlessWatch
from kvroute.frontend.upstream import Headers
from kvroute.tokenization import TokenizationError, Tokenizer
from kvroute.tokenization.request_body import (
    chat_token_ids,
    template_variables,
    text_token_ids,
)

logger = logging.getLogger("kvroute.frontend")

# Requests up to this size are tokenized in the event loop: a thread costs more.
_INLINE_BYTES = 4096
# Of a batch of texts an engine is asked for so many; the others are booked without their tokens.
_MAX_ASKED = 8


class TokenSource:
    """Gets the token ids of a request's prompts, or none where nobody can tell them."""

    def __init__(
        self, fleet: Fleet, engines: EngineTokens, tokenizer: Tokenizer | None, *, threads: int
    ) -> None:
        self._engines = engines
        self._tokenizer = tokenizer
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="kvroute-tokenize")
        self._counted = fleet.metrics.tokenizations
        self._time = fleet.metrics.tokenize_time
        self._watches = {name: TokenlessWatch(name) for name in fleet.groups}

    async def token_ids(
        self, group: ModelGroup, request: PromptRequest, *, headers: Headers
    ) -> list[TokenIds]:
        """Token ids of each prompt (one for a chat), empty for those that nobody can tell.

        `headers` go along to an engine (authorization). Never raises for what a client sent: the
        engine itself will say what it thinks of it.
        """
        given = [prompt for prompt in request.prompts if not isinstance(prompt, str)]
        texts = [prompt for prompt in request.prompts if isinstance(prompt, str)]
        if request.messages is None and not texts:
            self._counted.labels(group.name, "request" if given[0] else "none").inc()
            return given
        if not group.needs_tokens:
            return [NO_TOKENS] * max(1, len(texts))
        started = time.perf_counter()
        tokens = await self._local(request, texts)
        source = "local"
        if tokens is None:
            tokens = await self._from_engine(group, request, texts, headers)
            source = "engine"
        if not tokens[0]:
            source = "none"
        self._time.labels(group.name).observe(time.perf_counter() - started)
        self._counted.labels(group.name, source).inc()
        self._watches[group.name].note(source != "none")
        return tokens

    async def _local(self, request: PromptRequest, texts: list[str]) -> list[TokenIds] | None:
        tokenizer = self._tokenizer
        if tokenizer is None:
            return None

        def tokenize() -> list[TokenIds]:
            if request.messages is not None:
                return [array("I", chat_token_ids(tokenizer, request.fields))]
            return [array("I", text_token_ids(tokenizer, text, request.fields)) for text in texts]

        try:
            if request.size <= _INLINE_BYTES:
                return tokenize()
            return await asyncio.get_running_loop().run_in_executor(self._pool, tokenize)
        except TokenizationError as error:
            logger.debug("local tokenization: %s", error)
        except Exception:  # a template or a tokenizer may fail in any way
            logger.warning("local tokenization failed; an engine is asked", exc_info=True)
        return None

    async def _from_engine(
        self, group: ModelGroup, request: PromptRequest, texts: list[str], headers: Headers
    ) -> list[TokenIds]:
        """Of many texts only the first few are asked for."""
        count = max(1, len(texts))
        try:
            bodies = [
                _tokenize_body(request, texts, index) for index in range(min(count, _MAX_ASKED))
            ]
        except orjson.JSONEncodeError as error:  # nested too deeply to be written again
            logger.debug("a body for /tokenize: %s", error)
            return [NO_TOKENS] * count
        answers = await self._engines.token_ids(group, bodies, headers)
        return [*answers, *([NO_TOKENS] * (count - len(bodies)))]

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _tokenize_body(request: PromptRequest, texts: list[str], index: int) -> bytes:
    """A body for vLLM's POST /tokenize: the chat, or the text of this index."""
    body: dict[str, Any] = {}
    fields = request.fields
    if request.model is not None:
        body["model"] = request.model
    if request.messages is None:
        body["prompt"] = texts[index]
        names: tuple[str, ...] = ("add_special_tokens",)
    else:
        body["messages"] = request.messages
        names = (
            "add_special_tokens",
            "add_generation_prompt",
            "continue_final_message",
            "chat_template",
            "mm_processor_kwargs",
            "tools",
        )
        # /tokenize knows these variables only as part of chat_template_kwargs.
        variables = template_variables(fields)
        if variables:
            body["chat_template_kwargs"] = variables
    for name in names:
        if fields.get(name) is not None:
            body[name] = fields[name]
    return orjson.dumps(body)

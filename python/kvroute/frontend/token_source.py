"""A request's token ids: its own, a local tokenizer's, or an engine's."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson

from kvroute.frontend.fleet import Backend, Fleet, ModelGroup
from kvroute.frontend.prompts import PromptRequest
from kvroute.frontend.upstream import Upstream, UpstreamError
from kvroute.tokenization import TokenizationError, Tokenizer

logger = logging.getLogger("kvroute.frontend")

# Texts up to this many characters are tokenized in the event loop: a thread costs more.
_INLINE_CHARACTERS = 2000
# Of a batch of texts an engine is asked for so many; the others are booked without their tokens.
_MAX_ASKED = 8
_MAX_ANSWER_BYTES = 64 << 20
_TEMPLATE_ARGUMENTS = {
    "self",
    "messages",
    "tools",
    "add_generation_prompt",
    "continue_final_message",
}


class TokenSource:
    """Gets the token ids of a request's prompts, or none where nobody can tell them."""

    def __init__(
        self,
        fleet: Fleet,
        upstream: Upstream,
        tokenizer: Tokenizer | None,
        *,
        threads: int,
        timeout: float,
    ) -> None:
        """`timeout`: seconds that an engine's /tokenize may take."""
        self._upstream = upstream
        self._tokenizer = tokenizer
        self._timeout = timeout
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="kvroute-tokenize")
        self._counted = fleet.metrics.tokenizations
        self._time = fleet.metrics.tokenize_time

    async def token_ids(
        self, group: ModelGroup, request: PromptRequest, *, headers: list[tuple[bytes, bytes]]
    ) -> list[list[int]]:
        """Token ids of each prompt (one for a chat), [] for those that nobody can tell.

        `headers` go along to an engine (authorization). Never raises for what a client sent: the
        engine itself will say what it thinks of it.
        """
        texts = [prompt for prompt in request.prompts if isinstance(prompt, str)]
        if request.messages is None and not texts:
            self._counted.labels(group.name, "request").inc()
            return request.prompts  # type: ignore[return-value]
        if not group.needs_tokens:
            return [[]] * max(1, len(texts))
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
        return tokens

    async def _local(self, request: PromptRequest, texts: list[str]) -> list[list[int]] | None:
        tokenizer = self._tokenizer
        if tokenizer is None:
            return None
        if request.messages is None:
            size = sum(map(len, texts))
        else:
            size = sum(map(_content_size, request.messages))

        def tokenize() -> list[list[int]]:
            if request.messages is not None:
                return [_chat_tokens(tokenizer, request.fields)]
            special = request.fields.get("add_special_tokens", True) is not False
            return [tokenizer.encode(text, add_special_tokens=special) for text in texts]

        try:
            if size <= _INLINE_CHARACTERS:
                return tokenize()
            return await asyncio.get_running_loop().run_in_executor(self._pool, tokenize)
        except TokenizationError as error:
            logger.debug("local tokenization: %s", error)
            return None

    async def _from_engine(
        self,
        group: ModelGroup,
        request: PromptRequest,
        texts: list[str],
        headers: list[tuple[bytes, bytes]],
    ) -> list[list[int]]:
        """Asks one engine that takes requests; of many texts only for the first few."""
        count = max(1, len(texts))
        backend = next(group.in_turn(), None)
        if backend is None:
            return [[]] * count
        asked = min(count, _MAX_ASKED)
        answers = await asyncio.gather(
            *(
                self._tokens_or_none(backend, _tokenize_body(request, texts, index), headers)
                for index in range(asked)
            )
        )
        return [*answers, *([[]] * (count - asked))]

    async def _tokens_or_none(
        self, backend: Backend, body: bytes, headers: list[tuple[bytes, bytes]]
    ) -> list[int]:
        try:
            return await asyncio.wait_for(self._ask(backend, body, headers), self._timeout)
        except (UpstreamError, asyncio.TimeoutError, ValueError) as error:
            logger.debug("%s/tokenize: %s", backend.url, error)
            return []

    async def _ask(
        self, backend: Backend, body: bytes, headers: list[tuple[bytes, bytes]]
    ) -> list[int]:
        response = await self._upstream.request(
            "POST",
            f"{backend.url}/tokenize",
            [(b"content-type", b"application/json"), *headers],
            body,
        )
        try:
            answer = bytearray()
            while chunk := await response.read_chunk():
                answer += chunk
                if len(answer) > _MAX_ANSWER_BYTES:
                    raise ValueError(f"an answer larger than {_MAX_ANSWER_BYTES} bytes")
            if response.status != 200:
                raise ValueError(f"status {response.status}")
        finally:
            response.close()
        return _tokens_of(answer)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _chat_tokens(tokenizer: Tokenizer, fields: dict[str, Any]) -> list[int]:
    if fields.get("chat_template") is not None:
        raise TokenizationError("chat_template: only the engine knows what it makes of it")
    extra = fields.get("chat_template_kwargs") or {}
    if not isinstance(extra, dict) or _TEMPLATE_ARGUMENTS & extra.keys():
        raise TokenizationError("chat_template_kwargs: expected an object of template variables")
    if fields.get("documents") is not None:
        extra = {"documents": fields["documents"], **extra}
    return tokenizer.apply_chat_template(
        fields["messages"],
        fields.get("tools"),
        fields.get("add_generation_prompt", True) is not False,
        fields.get("continue_final_message", False) is True,
        **extra,
    )


def _content_size(message: Any) -> int:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return len(content)
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return sum(len(text) for text in texts if isinstance(text, str))
    return 0


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
            "chat_template_kwargs",
            "mm_processor_kwargs",
            "tools",
        )
    for name in names:
        if fields.get(name) is not None:
            body[name] = fields[name]
    return orjson.dumps(body)


def _tokens_of(answer: bytearray) -> list[int]:
    content = orjson.loads(answer)
    ids = content.get("tokens") if isinstance(content, dict) else None
    if not isinstance(ids, list) or set(map(type, ids)) - {int}:
        raise ValueError("expected an object with a list of tokens")
    return ids

"""One streamed completion, as a client of the OpenAI API reads it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import orjson

_MAX_EVENT_BYTES = 1 << 20
_EVENT_END = b"\n\n"
_DONE = b"data: [DONE]"


class CompletionError(RuntimeError):
    """The answer was not a whole, successful completion."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What one request got. `time_to_first_token` and `seconds`, to its end, count from before it
    was sent.

    `worker` and `prefill_worker` are the headers `x-kvroute-worker` and `x-kvroute-prefill-worker`,
    None without one; the token counts are those of the engine's `usage`.
    """

    worker: str | None
    prefill_worker: str | None
    time_to_first_token: float
    seconds: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


async def stream_completion(
    session: aiohttp.ClientSession, url: str, model: str, token_ids: list[int], max_tokens: int
) -> Completion:
    """Posts a token-id prompt to `url` (a frontend's or engine's root) and reads all of its answer.

    Raises `CompletionError` unless the answer is status 200, streams `max_tokens` tokens, and ends
    with usage and the end mark; aiohttp's errors and time-outs pass through.
    """
    body = orjson.dumps(
        {
            "model": model,
            "prompt": token_ids,
            "max_tokens": max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    started = time.perf_counter()
    headers = {"content-type": "application/json"}
    async with session.post(f"{url}/v1/completions", data=body, headers=headers) as response:
        if response.status != 200:
            said = (await response.content.read(2000)).decode(errors="replace")
            raise CompletionError(f"status {response.status}: {said.strip()}")
        first, last, done = 0.0, b"", False
        async for event in _events(response.content):
            if event.startswith(b'data: {"error"'):
                raise CompletionError(f"error event: {event[6:2000].decode(errors='replace')}")
            if event == _DONE:
                done = True
            else:
                first = first or time.perf_counter()
                last = event
        seconds = time.perf_counter() - started
        worker = response.headers.get("x-kvroute-worker")
        prefill_worker = response.headers.get("x-kvroute-prefill-worker")
    if not done:
        raise CompletionError("the stream ended without its end mark")
    prompt, cached, generated = _usage(last)
    if prompt != len(token_ids) or generated != max_tokens:
        raise CompletionError(
            f"expected usage of {len(token_ids)} prompt and {max_tokens} completion tokens, "
            f"got {prompt} and {generated}"
        )
    return Completion(worker, prefill_worker, first - started, seconds, prompt, cached, generated)


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    rest = b""
    async for data in content.iter_any():
        *events, rest = (rest + data).split(_EVENT_END)
        for event in events:
            if event.startswith(b"data: "):
                yield event
        if len(rest) > _MAX_EVENT_BYTES:
            raise CompletionError(f"an event is longer than {_MAX_EVENT_BYTES} bytes")


def _usage(event: bytes) -> tuple[int, int, int]:
    try:
        usage = orjson.loads(event.removeprefix(b"data: "))["usage"]
        details = usage.get("prompt_tokens_details") or {}
        cached = details.get("cached_tokens") or 0
        return int(usage["prompt_tokens"]), int(cached), int(usage["completion_tokens"])
    except (ValueError, KeyError, TypeError, AttributeError):
        said = event[:200].decode(errors="replace")
        raise CompletionError(f"the stream's last event has no usage: {said}") from None

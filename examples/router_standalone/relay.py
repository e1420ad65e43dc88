"""Passing an engine's answer on, for as long as the client stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any, TypeVar

import orjson
from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from worker import EngineAnswer, EngineUnavailableError

T = TypeVar("T")


class ClientGoneError(Exception):
    """The client closed its connection before the answer began."""


async def until_client_leaves(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled, and ClientGoneError raised, if the client leaves.

    The request's body must have been read. (A FastAPI handler is not told by itself.)
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGoneError
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.wait({working, leaving})


class RelayedStream(StreamingResponse):
    """An engine's event stream, chunk by chunk as it comes; closed on every way out."""

    def __init__(self, answer: EngineAnswer, headers: Mapping[str, str]) -> None:
        super().__init__(
            _events(answer),
            answer.status,
            {"cache-control": "no-cache", **headers},
            answer.media_type,
        )
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.close()


def error_body(status: int, kind: str, message: str) -> bytes:
    """An error in OpenAI's shape."""
    error = {"message": message, "type": kind, "param": None, "code": status}
    return orjson.dumps({"error": error})


async def _events(answer: EngineAnswer) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.chunks():
            yield chunk
    except EngineUnavailableError as error:  # too late for a status: the stream itself must say it
        yield b"data: " + error_body(502, "engine_unavailable", str(error)) + b"\n\n"


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

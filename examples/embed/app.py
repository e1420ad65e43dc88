"""A gateway of one's own with kvroute inside: about thirty lines of FastAPI.

    ENGINES='{"http://127.0.0.1:8000": "tcp://127.0.0.1:5557"}' TOKENIZER=path/to/model \
        uvicorn app:app --port 9000

A client that leaves within a stream ends it at the engine, too. One that leaves before its answer
has begun, which for an answer that is not streamed means before it is whole, is not noticed, and
the engine computes on; `kvroute serve` notices.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import kvroute
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from kvroute.tokenization import TokenizationError, Tokenizer

ENGINES: dict[str, str] = json.loads(os.environ["ENGINES"])  # engine's URL: its KV events
# A stream may last for hours; an engine that says nothing for ten minutes is given up.
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=600)
tokenizer = Tokenizer.from_directory(os.environ["TOKENIZER"])
router = kvroute.KvRouter(block_size=int(os.environ.get("BLOCK_SIZE", "16")))
for url, kv_events in ENGINES.items():
    router.add_worker(url, kv_events=kv_events)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    connector = aiohttp.TCPConnector(limit=0)  # by itself it queues what exceeds 100 connections
    async with aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as app.state.engines:
        yield
    router.close()


app = FastAPI(lifespan=lifespan)


@app.post("/v1/chat/completions")
async def chat(request: Request) -> StreamingResponse:
    try:
        body = await request.json()
        token_ids = await asyncio.to_thread(
            tokenizer.apply_chat_template, body["messages"], body.get("tools")
        )
        choice = router.select_worker(token_ids)
        answer = await request.app.state.engines.post(
            f"{choice.worker}{request.url.path}", json=body
        )
    except (TokenizationError, ValueError, KeyError, TypeError) as error:
        raise HTTPException(400, f"bad request: {error!r}") from error
    except (aiohttp.ClientError, asyncio.TimeoutError) as error:
        raise HTTPException(502, f"{choice.worker} does not answer: {error}") from error
    return StreamingResponse(
        chunks(answer),
        answer.status,
        {"x-worker": str(choice.worker), "x-cached-tokens": str(choice.cached_tokens)},
        answer.content_type,
    )


async def chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with answer:  # closed also when the client leaves
        async for chunk in answer.content.iter_any():
            yield chunk

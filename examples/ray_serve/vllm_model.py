"""A replica with vLLM's engine inside, for app.py --vllm. Written for vLLM 0.11 and later; unlike
the rest of this example it was not run: it needs a GPU."""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from kvroute.ray_serve import KvRouteReplica

BLOCK_SIZE = 16


class VllmModel(KvRouteReplica):
    """Completions and chats from token ids; vLLM publishes the KV events that route them."""

    def __init__(self, model: str) -> None:
        from vllm import AsyncEngineArgs
        from vllm.config import KVEventsConfig
        from vllm.v1.engine.async_llm import AsyncLLM

        events, replay = _unused_port(), _unused_port()
        self._name = model
        self._engine = AsyncLLM.from_engine_args(
            AsyncEngineArgs(
                model=model,
                block_size=BLOCK_SIZE,
                enable_prefix_caching=True,
                kv_events_config=KVEventsConfig(
                    enable_kv_cache_events=True,
                    publisher="zmq",
                    endpoint=f"tcp://*:{events}",
                    replay_endpoint=f"tcp://*:{replay}",
                ),
            )
        )
        self.kvroute_engine(f"tcp://*:{events}", f"tcp://*:{replay}", block_size=BLOCK_SIZE)

    async def generate(
        self, body: dict[str, Any], request_token_ids: Any = None
    ) -> AsyncIterator[bytes]:
        """Server-sent events for a body that streams, else the one answer."""
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        request_id = f"cmpl-{uuid.uuid4().hex}"
        head = {"id": request_id, "created": int(time.time()), "model": self._name}
        streams = bool(body.get("stream"))
        sampling = SamplingParams(
            max_tokens=body.get("max_tokens", 16),
            temperature=body.get("temperature", 1.0),
            output_kind=RequestOutputKind.DELTA if streams else RequestOutputKind.FINAL_ONLY,
        )
        prompt = TokensPrompt(prompt_token_ids=list(request_token_ids))
        async for output in self._engine.generate(prompt, sampling, request_id):
            choice = _choice(output.outputs[0], "messages" in body, streams)
            document = json.dumps({**head, "choices": [choice]}).encode()
            yield b"data: " + document + b"\n\n" if streams else document
        if streams:
            yield b"data: [DONE]\n\n"


def _choice(output: Any, is_chat: bool, streams: bool) -> dict[str, Any]:
    end = {"index": 0, "finish_reason": output.finish_reason}
    if not is_chat:
        return {"text": output.text, **end}
    return {"delta" if streams else "message": {"role": "assistant", "content": output.text}, **end}


def _unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])

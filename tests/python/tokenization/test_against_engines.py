"""Local tokenization equals an engine's /tokenize on the same tokenizer directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from kvroute.engines import SimulatedEngine
from kvroute.tokenization import Tokenizer

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
            "description": "Says <b>how</b> it is & will be: é 東京",
        },
    },
    {"type": "function", "function": {"name": "stop"}},
]
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Köln", "days": [1, 2]}'},
}
CHATS: dict[str, list[dict[str, Any]]] = {
    "plain": [{"role": "user", "content": "Hello <there> & good morning 🙂"}],
    "system": [
        {"role": "system", "content": "  Be brief.  "},
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": " Because. "},
        {"role": "user", "content": "And <|im_end|> then?"},
    ],
    "parts": [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {
            "role": "user",
            "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two\n"}],
        },
    ],
    "tools": [
        {"role": "user", "content": "Weather?", "name": "Ada"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {
            "role": "tool",
            "tool_call_id": "call_1",
            "content": [{"type": "text", "text": "rain"}, {"type": "text", "text": "wind"}],
        },
        {"role": "user", "content": "So?"},
    ],
}


@pytest.mark.parametrize("family", ["chatml", "tools", "parts", "reasoning", "named", "file"])
async def test_chats_and_texts_equal_the_engines(
    template_directories: dict[str, Path], family: str
) -> None:
    path = template_directories[family]
    local = Tokenizer.from_directory(path)
    async with (
        SimulatedEngine(model="m", tokenizer=path, kv_events=None, kv_replay=None) as engine,
        aiohttp.ClientSession() as client,
    ):

        async def remote(**body: Any) -> list[int]:
            async with client.post(
                engine.http_url + "/tokenize", data=json.dumps({"model": "m", **body})
            ) as got:
                assert got.status == 200, await got.text()
                tokens: list[int] = (await got.json())["tokens"]
                return tokens

        for text in ("", "Hello", "  <s> é\n"):
            assert await remote(prompt=text) == local.encode(text)
        for messages in CHATS.values():
            for tools in (None, TOOLS):
                options: dict[str, Any] = {"tools": tools} if tools else {}
                assert await remote(messages=messages, **options) == local.apply_chat_template(
                    messages, tools
                )
                assert await remote(
                    messages=messages, add_generation_prompt=False, **options
                ) == local.apply_chat_template(messages, tools, add_generation_prompt=False)
        assert await remote(
            messages=CHATS["plain"], chat_template_kwargs={"enable_thinking": False}
        ) == local.apply_chat_template(CHATS["plain"], enable_thinking=False)

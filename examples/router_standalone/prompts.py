"""From an OpenAI request to the token ids by which it is routed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
from kvroute.tokenization import TokenizationError, Tokenizer, UnsupportedContentError
from worker import EngineRequest, EngineUnavailableError, VllmWorkers

CHAT_FIELDS = (
    "model",
    "messages",
    "tools",
    "add_generation_prompt",
    "continue_final_message",
    "add_special_tokens",
    "chat_template",
    "chat_template_kwargs",
)
COMPLETION_FIELDS = ("model", "prompt", "add_special_tokens")


class BadPromptError(ValueError):
    """The request has no prompt that could be routed; the message names the field."""


class PromptTokens:
    """Token ids of requests: by a tokenizer of our own, else by an engine's /tokenize."""

    def __init__(self, workers: VllmWorkers, tokenizer: Tokenizer | None = None) -> None:
        self._workers = workers
        self._tokenizer = tokenizer

    async def of_completion(self, body: Mapping[str, Any]) -> list[int]:
        """Of the prompt, or of the first of several; raises as of_chat does."""
        prompt = body.get("prompt")
        if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
            prompt = prompt[0]
        if isinstance(prompt, list):
            return _checked(prompt)
        if not isinstance(prompt, str):
            raise BadPromptError("prompt: expected text, token ids, or a list of either")
        if self._tokenizer is None:
            return await self._ask_engine({**body, "prompt": prompt}, COMPLETION_FIELDS)
        special = body.get("add_special_tokens", True) is not False
        return await asyncio.to_thread(self._tokenizer.encode, prompt, special)

    async def of_chat(self, body: Mapping[str, Any]) -> list[int]:
        """Of the chat under the model's template. Raises BadPromptError, EngineUnavailableError."""
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise BadPromptError("messages: expected a list of at least one message")
        if self._tokenizer is None or body.get("chat_template") is not None:
            return await self._ask_engine(body, CHAT_FIELDS)
        try:
            return await asyncio.to_thread(self._apply_template, self._tokenizer, body)
        except UnsupportedContentError:  # an image's tokens are known to the engine alone
            return await self._ask_engine(body, CHAT_FIELDS)
        except (TokenizationError, TypeError) as error:
            raise BadPromptError(f"messages: {error}") from error

    @staticmethod
    def _apply_template(tokenizer: Tokenizer, body: Mapping[str, Any]) -> list[int]:
        return tokenizer.apply_chat_template(
            body["messages"],
            tools=body.get("tools"),
            add_generation_prompt=body.get("add_generation_prompt", True),
            continue_final_message=body.get("continue_final_message", False),
            **(body.get("chat_template_kwargs") or {}),
        )

    async def _ask_engine(self, body: Mapping[str, Any], fields: tuple[str, ...]) -> list[int]:
        question = {name: body[name] for name in fields if name in body}
        answer = await self._workers.direct_to_any(
            EngineRequest("/tokenize", orjson.dumps(question))
        )
        try:
            content = await answer.read()
        finally:
            answer.close()
        if answer.status != 200:
            text = content[:500].decode(errors="replace")
            raise BadPromptError(f"the engine could not tokenize the prompt: {text}")
        try:
            return _checked(orjson.loads(content)["tokens"])
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise EngineUnavailableError("an engine answered /tokenize without tokens") from error


def _checked(token_ids: list[Any]) -> list[int]:
    for token_id in token_ids:
        if type(token_id) is not int or not 0 <= token_id < 2**32:
            raise BadPromptError(
                f"prompt: expected token ids of 0 to 2**32 - 1, got {token_id!r:.40}"
            )
    return token_ids

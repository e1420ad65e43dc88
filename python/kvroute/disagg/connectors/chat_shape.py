"""A chat's request as a completion's, and a completion's answer as a chat's.

Source of both shapes: the OpenAI API; where it leaves open what a server does, vLLM's
(vllm/entrypoints/openai: chat ``bytes`` are the token text's UTF-8, the first of a completion's
``top_logprobs`` is the token itself and the rest follow by rank).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CHAT_ONLY = frozenset(
    (
        "messages",
        "max_completion_tokens",
        "logprobs",
        "top_logprobs",
        "chat_template",
        "chat_template_kwargs",
        "add_generation_prompt",
        "continue_final_message",
        "documents",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "functions",
        "function_call",
        "response_format",
        "mm_processor_kwargs",
    )
)


def completion_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A chat's body for ``/v1/completions``, still without its prompt.

    ``max_tokens`` is the chat's limit, null where it has none (left out it would be 16).
    """
    body = {name: value for name, value in fields.items() if name not in _CHAT_ONLY}
    limit = fields.get("max_completion_tokens")
    body["max_tokens"] = fields.get("max_tokens") if limit is None else limit
    if fields.get("logprobs"):
        body["logprobs"] = fields.get("top_logprobs") or 0
    return body


def answer_role(fields: Mapping[str, Any]) -> str:
    """Whose message the answer is: the last message's where that one is to be continued."""
    messages = fields.get("messages")
    if fields.get("add_generation_prompt") is False and isinstance(messages, list) and messages:
        role = messages[-1].get("role") if isinstance(messages[-1], dict) else None
        if isinstance(role, str):
            return role
    return "assistant"


def chat_id(completion_id: object) -> object:
    """A chat's answer's id for a completion's."""
    if not isinstance(completion_id, str):
        return completion_id
    return "chatcmpl-" + completion_id.removeprefix("cmpl-")


def chat_logprobs(logprobs: object, top: int) -> dict[str, Any] | None:
    """A chat's ``logprobs`` with `top` alternatives a token; None where there are none."""
    if not isinstance(logprobs, Mapping):
        return None
    tokens = logprobs.get("tokens") or []
    values = logprobs.get("token_logprobs") or []
    ranked = logprobs.get("top_logprobs") or [None] * len(tokens)
    return {
        "content": [
            {
                **_entry(token, value),
                "top_logprobs": [_entry(*pair) for pair in list((best or {}).items())[:top]],
            }
            for token, value, best in zip(tokens, values, ranked, strict=False)
        ]
    }


def chat_choice(
    choice: Mapping[str, Any], top: int, message: str, role: str | None
) -> dict[str, Any]:
    """A chat's choice for a completion's. `message` is "delta" or "message"; it gets `role`."""
    said = {} if role is None else {"role": role}
    shaped = {
        "index": choice.get("index", 0),
        message: {**said, "content": choice.get("text") or ""},
        "logprobs": chat_logprobs(choice.get("logprobs"), top),
        "finish_reason": choice.get("finish_reason"),
    }
    if "stop_reason" in choice:
        shaped["stop_reason"] = choice["stop_reason"]
    return shaped


def _entry(token: str, value: object) -> dict[str, Any]:
    return {
        "token": token,
        "logprob": value,
        "bytes": list(token.encode("utf-8", errors="replace")),
    }

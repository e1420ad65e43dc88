"""The token ids of an OpenAI request's fields, as vLLM's server computes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvroute.tokenization.errors import TokenizationError
from kvroute.tokenization.tokenizer import Tokenizer

_TEMPLATE_ARGUMENTS = {
    "self",
    "messages",
    "tools",
    "add_generation_prompt",
    "continue_final_message",
    "add_special_tokens",
}
# Fields of a chat that vLLM gives to the template beside chat_template_kwargs; they win over it.
_TEMPLATE_FIELDS = ("documents", "reasoning_effort")

CHAT_FIELDS = (
    *("messages", "tools", "add_generation_prompt", "continue_final_message", "add_special_tokens"),
    *("chat_template", "chat_template_kwargs", *_TEMPLATE_FIELDS),
)
"""Everything in a chat that `chat_token_ids` looks at."""


def chat_token_ids(tokenizer: Tokenizer, fields: Mapping[str, Any]) -> list[int]:
    """Of a body of POST /v1/chat/completions with `messages`. Raises TokenizationError."""
    if fields.get("chat_template") is not None:
        raise TokenizationError("chat_template: only the engine knows what it makes of it")
    extra = template_variables(fields)
    if not isinstance(extra, dict) or _TEMPLATE_ARGUMENTS & extra.keys():
        raise TokenizationError("chat_template_kwargs: expected an object of template variables")
    return tokenizer.apply_chat_template(
        fields["messages"],
        fields.get("tools"),
        fields.get("add_generation_prompt", True) is not False,
        fields.get("continue_final_message", False) is True,
        fields.get("add_special_tokens", False) is True,
        **extra,
    )


def text_token_ids(tokenizer: Tokenizer, text: str, fields: Mapping[str, Any]) -> list[int]:
    """Of a text prompt in a body of POST /v1/completions. Raises TokenizationError."""
    special = fields.get("add_special_tokens", True) is not False
    return tokenizer.encode(text, add_special_tokens=special)


def template_variables(fields: Mapping[str, Any]) -> Any:
    """The chat's chat_template_kwargs with the fields that vLLM adds to them."""
    variables = fields.get("chat_template_kwargs")
    if variables is None:
        variables = {}
    if isinstance(variables, dict):
        given = {name: fields[name] for name in _TEMPLATE_FIELDS if fields.get(name) is not None}
        return {**variables, **given}
    return variables

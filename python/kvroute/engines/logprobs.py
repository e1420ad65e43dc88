"""The log probabilities of generated tokens, in OpenAI's two shapes."""

from __future__ import annotations

from typing import Any

from kvroute.engines.generation import Generation


def completion_logprobs(one: Generation, start: int, stop: int, top: int) -> dict[str, Any]:
    """Of a completion's tokens ``start`` to ``stop``: lists, token by token."""
    ranked = [entry.best(max(1, top)) for entry in one.output.ranked(start, stop)]
    offset = len(one.output.text(0, start))
    offsets = []
    for entry in ranked:
        offsets.append(offset)
        offset += len(entry[0][0])
    return {
        "text_offset": offsets,
        "token_logprobs": [entry[0][1] for entry in ranked],
        "tokens": [entry[0][0] for entry in ranked],
        "top_logprobs": [dict(entry) for entry in ranked],
    }


def chat_logprobs(one: Generation, start: int, stop: int, top: int) -> dict[str, Any]:
    """Of a chat's tokens: one object each, with `top` alternatives, the token itself first."""
    content = []
    for entry in one.output.ranked(start, stop):
        best = entry.best(max(1, top))
        content.append({**_shape(*best[0]), "top_logprobs": [_shape(*pair) for pair in best[:top]]})
    return {"content": content}


def _shape(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}

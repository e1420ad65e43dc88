"""What a client makes of an answer: everything but ids, times and the borders of chunks."""

from __future__ import annotations

from typing import Any

import orjson


def view_whole(body: bytes) -> dict[str, Any]:
    """Of a whole answer."""
    answer = orjson.loads(body)
    (choice,) = answer["choices"]
    message = choice.get("message", {})
    return {
        "object": answer["object"],
        "text": message.get("content", choice.get("text")),
        "role": message.get("role"),
        "logprobs": choice["logprobs"],
        "finish_reason": choice["finish_reason"],
        "usage": answer["usage"],
    }


def view_stream(data: bytes) -> dict[str, Any]:
    """Of a stream; it must be one answer from beginning to end."""
    *events, done, rest = data.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    documents = [orjson.loads(event.removeprefix(b"data: ")) for event in events]
    assert len({(one["id"], one["created"], one["model"]) for one in documents}) == 1
    view: dict[str, Any] = {
        "object": documents[0]["object"],
        "text": "",
        "role": None,
        "logprobs": None,
        "finish_reason": None,
        "usage": None,
        "counts": [],
    }
    for one in documents:
        if one.get("usage") is not None:
            view["counts"].append(one["usage"]["completion_tokens"])
            view["usage"] = one["usage"]
        for choice in one["choices"]:
            assert view["finish_reason"] is None
            delta = choice.get("delta", {})
            view["role"] = delta.get("role", view["role"])
            view["text"] += delta.get("content", choice.get("text"))
            view["logprobs"] = _joined(view["logprobs"], choice["logprobs"])
            view["finish_reason"] = choice["finish_reason"]
    return view


def _joined(before: dict[str, Any] | None, more: dict[str, Any] | None) -> dict[str, Any] | None:
    if before is None or more is None:
        return more if before is None else before
    return {name: before[name] + more[name] for name in before}

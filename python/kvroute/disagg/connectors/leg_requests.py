"""What the legs of most protocols have alike: headers, and the body that only fills the cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from kvroute.disagg.legs import RANK_HEADER, ClientRequest, Headers, LegRequest, Worker

_REPLACED = frozenset(
    (b"content-length", b"content-type", b"accept-encoding", b"x-request-id", RANK_HEADER)
)
_OF_WHOLE_ANSWERS = ("stream_options", "min_tokens", "min_completion_tokens")


def leg_request(
    request: ClientRequest,
    worker: Worker,
    fields: Mapping[str, Any],
    *,
    path: str | None = None,
    request_id: str | None = None,
    dp_rank: int | None = None,
) -> LegRequest:
    """A leg with the client's headers, one ``X-Request-Id``, and `fields` as its JSON body.

    Args:
        path: where it is not the client's.
        request_id: where it is not the client's.
        dp_rank: where it is not the worker's. The rank goes in ``X-data-parallel-rank``, as vLLM's
            internal load balancing reads it; no rank, no header.
    """
    headers: list[tuple[bytes, bytes]] = _kept(request.headers)
    headers.append((b"content-type", b"application/json"))
    headers.append((b"x-request-id", (request_id or request.request_id).encode("latin-1")))
    rank = worker.dp_rank if dp_rank is None else dp_rank
    if rank is not None:
        headers.append((RANK_HEADER, str(rank).encode()))
    return LegRequest(path or request.path, headers, orjson.dumps(fields))


def _kept(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Without what a leg sets itself; an answer must come uncompressed, since it is read."""
    return [(name, value) for name, value in headers if name.lower() not in _REPLACED]


def prefill_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The body that has an engine fill its cache: one token, whole, and nothing that needs more.

    ``max_tokens`` is 1, and ``max_completion_tokens`` where it was there; ``stream`` is false;
    ``stream_options``, ``min_tokens`` and ``min_completion_tokens`` are left out. Source: vLLM,
    tests/v1/kv_connector/nixl_integration/toy_proxy_server.py.
    """
    body = {name: value for name, value in fields.items() if name not in _OF_WHOLE_ANSWERS}
    body["max_tokens"] = 1
    if "max_completion_tokens" in body:
        body["max_completion_tokens"] = 1
    body["stream"] = False
    return body

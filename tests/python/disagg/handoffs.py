"""Requests and handoffs for the tests of connectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from kvroute.disagg.legs import ClientRequest, Handoff, LegRequest, Worker

PREFILL = Worker("http://prefill:8100")
DECODE = Worker("http://decode:8200")
COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"


def client_request(
    fields: Mapping[str, Any],
    *,
    chat: bool = False,
    token_ids: tuple[int, ...] = (11, 12, 13),
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> ClientRequest:
    path = CHAT if chat else COMPLETIONS
    return ClientRequest(path, fields, headers, token_ids, "request-1")


def handoff(request: ClientRequest, prefill: Worker = PREFILL, decode: Worker = DECODE) -> Handoff:
    return Handoff(request, prefill, decode)


def body_of(leg: LegRequest) -> dict[str, Any]:
    fields = orjson.loads(leg.body)
    assert isinstance(fields, dict)
    return fields


def header_of(leg: LegRequest, name: bytes) -> list[bytes]:
    return [value for header, value in leg.headers if header.lower() == name]

"""The two legs of a disaggregated request: who takes part, and what each is sent."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Headers = Sequence[tuple[bytes, bytes]]
RANK_HEADER = b"x-data-parallel-rank"


@dataclass(frozen=True, slots=True)
class Worker:
    """One engine, in one leg. `url` is its base URL; `dp_rank` is None where it has one rank."""

    url: str
    dp_rank: int | None = None


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """What the client asked. Connectors read it and change nothing in it.

    Attributes:
        path: "/v1/completions" or "/v1/chat/completions".
        fields: the parsed body, without what a client says of transfers (`client_words`).
        headers: as they may go to an engine: without hop-by-hop ones and X-data-parallel-rank.
        token_ids: of the prompt; empty where nobody can tell them.
        request_id: the client's X-Request-Id, or one that was made up.
    """

    path: str
    fields: Mapping[str, Any]
    headers: Headers
    token_ids: Sequence[int]
    request_id: str

    @property
    def is_chat(self) -> bool:
        return self.path == "/v1/chat/completions"

    @property
    def is_streamed(self) -> bool:
        return self.fields.get("stream") is True


@dataclass(frozen=True, slots=True)
class Handoff:
    """One attempt to serve a request in two legs. A further attempt has another `transfer_id`."""

    request: ClientRequest
    prefill: Worker
    decode: Worker
    transfer_id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, slots=True)
class LegRequest:
    """A POST to one leg's engine."""

    path: str
    headers: Headers
    body: bytes

"""SGLang: both engines get the request at once and meet at the prefill engine's bootstrap server.

Source: SGLang's routers (``inject_bootstrap_fields``) and llm-d-router,
pkg/sidecar/proxy/connector_sglang.go. Both bodies carry ``bootstrap_host`` (the prefill worker's),
``bootstrap_port`` and ``bootstrap_room``, a number of 63 bits that no other request has; a batch
has a list of each, one item a prompt. With data-parallel ranks the legs name their own in
``routed_dp_rank`` and the decode leg the other's in ``disagg_prefill_dp_rank``. The decode engine's
answer is the client's, first token and usage included.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from kvroute.disagg.connector import AnswerRelay, Connector, HandoffError, Transfer
from kvroute.disagg.connectors.leg_requests import leg_request
from kvroute.disagg.connectors.option_values import (
    checked_port,
    checked_ports_by_url,
    same_url,
    url_host,
)
from kvroute.disagg.connectors.refusals import batch_size, shared_refusal
from kvroute.disagg.legs import ClientRequest, Handoff, LegRequest
from kvroute.disagg.usage import UsageRelay


@dataclass(frozen=True, slots=True)
class SglangOptions:
    """Attributes:
    bootstrap_port: of every prefill worker (``--disaggregation-bootstrap-port``).
    bootstrap_ports: of single ones instead, by their URL.
    """

    bootstrap_port: int = 8998
    bootstrap_ports: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked_port("bootstrap_port", self.bootstrap_port)
        ports = checked_ports_by_url("bootstrap_ports", self.bootstrap_ports)
        object.__setattr__(self, "bootstrap_ports", ports)

    def port_of(self, url: str) -> int:
        """Of the prefill worker at `url`."""
        return self.bootstrap_ports.get(same_url(url), self.bootstrap_port)


class SglangTransfer(Transfer):
    """One room, or for a batch one a prompt."""

    def __init__(self, handoff: Handoff, host: str, port: int) -> None:
        self._handoff = handoff
        fields = handoff.request.fields
        self._meeting: dict[str, Any] = {
            "bootstrap_host": host,
            "bootstrap_port": port,
            "bootstrap_room": secrets.randbits(63),
        }
        if not handoff.request.is_chat and _is_batch(fields):
            count = batch_size(fields)
            self._meeting = {
                "bootstrap_host": [host] * count,
                "bootstrap_port": [port] * count,
                "bootstrap_room": [secrets.randbits(63) for _ in range(count)],
            }

    def prefill(self) -> LegRequest:
        handoff = self._handoff
        body = {**self._fields(), **_rank("routed_dp_rank", handoff.prefill.dp_rank)}
        return leg_request(handoff.request, handoff.prefill, body)

    def decode(self) -> LegRequest:
        handoff = self._handoff
        body = {
            **self._fields(),
            **_rank("routed_dp_rank", handoff.decode.dp_rank),
            **_rank("disagg_prefill_dp_rank", handoff.prefill.dp_rank),
        }
        return leg_request(handoff.request, handoff.decode, body)

    def relay(self) -> AnswerRelay:
        return UsageRelay()

    def _fields(self) -> dict[str, Any]:
        return {**self._handoff.request.fields, **self._meeting}


class SglangConnector(Connector):
    """``--disagg-connector-type sglang``."""

    name: ClassVar[str] = "sglang"
    options_type: ClassVar[type[Any]] = SglangOptions
    is_concurrent: ClassVar[bool] = True
    serves_whole: ClassVar[bool] = False  # they want a bootstrap room

    def __init__(self, options: SglangOptions) -> None:
        self.options = options

    def refusal(self, request: ClientRequest) -> str | None:
        return shared_refusal(request, batches=True)

    def begin(self, handoff: Handoff) -> Transfer:
        url = handoff.prefill.url
        try:
            return SglangTransfer(handoff, url_host(url), self.options.port_of(url))
        except ValueError as error:
            raise HandoffError(f"sglang: {error}") from None


def _is_batch(fields: Mapping[str, Any]) -> bool:
    """A list of prompts is a batch, also where it has one."""
    prompt = fields.get("prompt")
    return isinstance(prompt, list) and bool(prompt) and type(prompt[0]) is not int


def _rank(name: str, rank: int | None) -> dict[str, int]:
    return {} if rank is None else {name: rank}

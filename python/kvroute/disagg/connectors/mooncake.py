"""Mooncake: both engines get the request at once and find each other by a transfer id.

Source: vLLM's MooncakeConnector and llm-d-router, pkg/sidecar/proxy/connector_mooncake.go. Both
legs carry ``kv_transfer_params`` with one ``transfer_id`` ("xfer-" and a UUID); the decode leg's
also says where the prefill worker's bootstrap server is and which engine runs at the rank that the
prefill leg is pinned to by ``X-data-parallel-rank``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from kvroute.disagg.connector import AnswerRelay, Connector, Fetch, HandoffError, Transfer
from kvroute.disagg.connectors.engine_ids import EngineIds
from kvroute.disagg.connectors.leg_requests import leg_request, prefill_fields
from kvroute.disagg.connectors.option_values import (
    checked_port,
    checked_ports_by_url,
    checked_seconds,
    same_url,
    url_host,
)
from kvroute.disagg.connectors.refusals import shared_refusal
from kvroute.disagg.legs import ClientRequest, Handoff, LegRequest
from kvroute.disagg.usage import UsageChange, UsageRelay

_PARAMS = "kv_transfer_params"


@dataclass(frozen=True, slots=True)
class MooncakeOptions:
    """Attributes:
    bootstrap_port: of every prefill worker (``VLLM_MOONCAKE_BOOTSTRAP_PORT``).
    bootstrap_ports: of single ones instead, by their URL.
    query_timeout: seconds for a bootstrap server's answer.
    query_lifetime: seconds that it is believed, unless a leg fails before.
    """

    bootstrap_port: int = 8998
    bootstrap_ports: Mapping[str, int] = field(default_factory=dict)
    query_timeout: float = 5.0
    query_lifetime: float = 60.0

    def __post_init__(self) -> None:
        checked_port("bootstrap_port", self.bootstrap_port)
        ports = checked_ports_by_url("bootstrap_ports", self.bootstrap_ports)
        object.__setattr__(self, "bootstrap_ports", ports)
        checked_seconds("query_timeout", self.query_timeout)
        checked_seconds("query_lifetime", self.query_lifetime)

    def address_of(self, url: str) -> str:
        """The bootstrap server of the prefill worker at `url`. Raises ValueError."""
        host = url_host(url)
        port = self.bootstrap_ports.get(same_url(url), self.bootstrap_port)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class MooncakeTransfer(Transfer):
    """One transfer id; the prefill worker's engine is asked for in `prepare`.

    A decode leg counts the transferred prompt as cached and nobody says what the prefill engine
    found: the client's ``prompt_tokens_details`` are null.
    """

    def __init__(self, handoff: Handoff, address: str, engine_ids: EngineIds) -> None:
        self._handoff = handoff
        self._address = address
        self._engine_ids = engine_ids
        self._transfer_id = f"xfer-{handoff.transfer_id}"
        self._rank = 0
        self._engine_id = ""

    async def prepare(self) -> None:
        known = await self._engine_ids.of(self._address)
        rank = self._handoff.prefill.dp_rank
        if rank is None:  # ranks that the frontend does not tell apart get their share
            ranks = list(known)
            rank = ranks[hash(self._transfer_id) % len(ranks)]
        if rank not in known:
            self.failed()
            raise HandoffError(f"mooncake: {self._address} knows no engine at rank {rank}")
        self._rank, self._engine_id = rank, known[rank]

    def prefill(self) -> LegRequest:
        request = self._handoff.request
        params = {
            "do_remote_prefill": False,
            "do_remote_decode": True,
            "transfer_id": self._transfer_id,
        }
        body = {**prefill_fields(request.fields), _PARAMS: params}
        return leg_request(request, self._handoff.prefill, body, dp_rank=self._rank)

    def decode(self) -> LegRequest:
        params = {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "transfer_id": self._transfer_id,
            "remote_bootstrap_addr": self._address,
            "remote_engine_id": self._engine_id,
        }
        request = self._handoff.request
        return leg_request(request, self._handoff.decode, {**request.fields, _PARAMS: params})

    def relay(self) -> AnswerRelay:
        return UsageRelay(UsageChange(has_details=True))

    def failed(self) -> None:
        self._engine_ids.forget(self._address)


class MooncakeConnector(Connector):
    """``--disagg-connector-type mooncake``."""

    name: ClassVar[str] = "mooncake"
    options_type: ClassVar[type[Any]] = MooncakeOptions
    is_concurrent: ClassVar[bool] = True

    def __init__(self, options: MooncakeOptions) -> None:
        self.options = options
        self._engine_ids: EngineIds | None = None

    async def open(self, fetch: Fetch | None = None) -> None:
        if fetch is None:
            raise ValueError("fetch: mooncake asks bootstrap servers and needs one")
        options = self.options
        self._engine_ids = EngineIds(fetch, options.query_timeout, options.query_lifetime)

    async def close(self) -> None:
        if self._engine_ids is not None:
            await self._engine_ids.close()

    def refusal(self, request: ClientRequest) -> str | None:
        return shared_refusal(request)

    def begin(self, handoff: Handoff) -> Transfer:
        if self._engine_ids is None:
            raise HandoffError("mooncake: not open")
        try:
            address = self.options.address_of(handoff.prefill.url)
        except ValueError as error:
            raise HandoffError(f"mooncake: {error}") from None
        return MooncakeTransfer(handoff, address, self._engine_ids)

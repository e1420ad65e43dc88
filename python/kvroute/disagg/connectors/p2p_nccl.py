"""P2pNccl: the engines read each other's addresses out of the request's id.

Source: vLLM, docs/design/p2p_nccl_connector.md and
examples/online_serving/disaggregated_serving_p2p_nccl_xpyd/disagg_proxy_p2p_nccl_xpyd.py.
Sequential: ``X-Request-Id`` of both legs is ``___prefill_addr_{ZMQ address}___decode_addr_{ZMQ
address}_{hex}``; the prefill leg is the request for one token, the decode leg the request as it is.
Newer engines are told by ``kv_transfer_params``: the prefill leg the decode engine's address
(``remote_kv_addr``), the decode leg what the prefill leg's answer says; older ones read neither.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from kvroute.disagg.connector import AnswerRelay, Connector, Fetch, HandoffError, Transfer
from kvroute.disagg.connectors.leg_requests import leg_request, prefill_fields
from kvroute.disagg.connectors.option_values import (
    checked_host,
    checked_port,
    checked_seconds,
    checked_url,
)
from kvroute.disagg.connectors.refusals import shared_refusal
from kvroute.disagg.connectors.registrations import Registrations, is_address
from kvroute.disagg.connectors.worker_hosts import ANY, WorkerHosts
from kvroute.disagg.legs import ClientRequest, Handoff, LegRequest, Worker
from kvroute.disagg.usage import UsageChange, UsageRelay, prefill_change

_PARAMS = "kv_transfer_params"


@dataclass(frozen=True, slots=True)
class P2pNcclOptions:
    """Attributes:
    registration_host, registration_port: where engines register (``proxy_ip``, ``proxy_port``
        of their connector's configuration). A port of None: they do not.
    registration_lifetime: seconds after which an engine that is not heard again is unknown.
    registration_peers: IP addresses that may register any engine of the fleet; every engine's own
        host may register it without that. "any": whoever reaches the port may.
    addresses: ZMQ addresses ("host:port") by engine URL, of engines that do not register.
    """

    registration_host: str = "0.0.0.0"
    registration_port: int | None = 30001
    registration_lifetime: float = 30.0
    registration_peers: str | Sequence[str] = ()
    addresses: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked_host("registration_host", self.registration_host)
        if self.registration_port is not None:
            checked_port("registration_port", self.registration_port, least=0)
        checked_seconds("registration_lifetime", self.registration_lifetime)
        peers = _checked_peers("registration_peers", self.registration_peers)
        object.__setattr__(self, "registration_peers", peers)
        if not isinstance(self.addresses, Mapping):
            raise ValueError(f"addresses: expected an object keyed by URL, got {self.addresses!r}")
        for url, address in self.addresses.items():
            checked_url("addresses key", url)
            if not is_address(address):
                raise ValueError(f"addresses[{url!r}]: expected host:port, got {address!r}")
        if self.registration_port is None and not self.addresses:
            raise ValueError("addresses: expected some, or a registration_port")


class P2pNcclTransfer(Transfer):
    """One request id for both legs. It is not the client's, who gets its own back."""

    def __init__(self, handoff: Handoff, prefill_address: str, decode_address: str) -> None:
        self._handoff = handoff
        self._decode_address = decode_address
        self._params: Mapping[str, Any] | None = None
        self._id = (
            f"___prefill_addr_{prefill_address}___decode_addr_{decode_address}"
            f"_{handoff.transfer_id}"
        )
        self._usage = UsageChange()
        self._fields = dict(handoff.request.fields)
        self._fields.pop(_PARAMS, None)

    def prefill(self) -> LegRequest:
        handoff = self._handoff
        params = {"remote_kv_addr": self._decode_address}
        body = {**prefill_fields(self._fields), _PARAMS: params}
        return leg_request(handoff.request, handoff.prefill, body, request_id=self._id)

    def prefilled(self, answer: Mapping[str, Any]) -> None:
        params = answer.get(_PARAMS)
        if params is not None and not isinstance(params, dict):
            raise HandoffError(f"prefill leg: expected {_PARAMS} to be an object, got {params!r}")
        self._params = params or None
        self._usage = prefill_change(answer)

    def decode(self) -> LegRequest:
        handoff = self._handoff
        body = dict(self._fields)
        if self._params is not None:
            body[_PARAMS] = self._params
        return leg_request(handoff.request, handoff.decode, body, request_id=self._id)

    def relay(self) -> AnswerRelay:
        return UsageRelay(self._usage)


class P2pNcclConnector(Connector):
    """``--disagg-connector-type p2p_nccl``."""

    name: ClassVar[str] = "p2p_nccl"
    options_type: ClassVar[type[Any]] = P2pNcclOptions
    serves_whole: ClassVar[bool] = False  # its engines read addresses out of every request's id

    def __init__(self, options: P2pNcclOptions) -> None:
        self.options = options
        self.registrations = Registrations(
            options.addresses,
            options.registration_host,
            options.registration_port,
            options.registration_lifetime,
            WorkerHosts(options.registration_peers),
        )

    async def open(self, fetch: Fetch | None = None) -> None:  # noqa: ARG002 - engines come to us
        await self.registrations.open()

    async def close(self) -> None:
        await self.registrations.close()

    def workers_are(self, prefill: Sequence[Worker], decode: Sequence[Worker]) -> None:
        self.registrations.workers_are(worker.url for worker in (*prefill, *decode))

    def messages(self) -> Mapping[str, int]:
        engines = self.registrations
        return {
            "taken": engines.taken,
            "malformed": engines.malformed,
            "refused": engines.refused,
        }

    def refusal(self, request: ClientRequest) -> str | None:
        return shared_refusal(request)

    def begin(self, handoff: Handoff) -> Transfer:
        prefill = self._address("prefill", handoff.prefill)
        return P2pNcclTransfer(handoff, prefill, self._address("decode", handoff.decode))

    def _address(self, leg: Literal["prefill", "decode"], worker: Worker) -> str:
        address = self.registrations.zmq_address(worker.url)
        if address is None:
            message = f"p2p_nccl: {leg} worker {worker.url} has not registered"
            raise HandoffError(message, leg=leg)
        return address


def _checked_peers(name: str, value: object) -> str | tuple[str, ...]:
    """ANY, or IP addresses."""
    if value == ANY:
        return ANY
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f'{name}: expected "{ANY}" or a list of IP addresses, got {value!r}')
    for address in value:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise ValueError(f"{name}: expected IP addresses, got {address!r}") from None
    return tuple(value)

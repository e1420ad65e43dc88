"""NIXL: the decode engine reads the prompt's blocks out of the prefill engine's memory.

Source: vLLM, tests/v1/kv_connector/nixl_integration/toy_proxy_server.py and
vllm/distributed/kv_transfer/kv_connector/v1/nixl. Sequential: the prefill leg's answer tells where
the blocks are, and the decode leg is told so. What it tells is opaque, since versions differ in it,
but for ``remote_host`` where that is no address for another machine: vLLM says what
``VLLM_NIXL_SIDE_CHANNEL_HOST`` is, "localhost" unless it is set, and 0.0.0.0 where it listens so.
The prefill engine holds the blocks until they are read or have expired.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kvroute.disagg.connector import AnswerRelay, Connector, HandoffError, Transfer
from kvroute.disagg.connectors.leg_requests import leg_request, prefill_fields
from kvroute.disagg.connectors.option_values import url_host
from kvroute.disagg.connectors.refusals import shared_refusal
from kvroute.disagg.legs import ClientRequest, Handoff, LegRequest
from kvroute.disagg.usage import UsageChange, UsageRelay, prefill_change

PARAMS = "kv_transfer_params"
_ASKED = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}


@dataclass(frozen=True, slots=True)
class NixlOptions:
    """Nothing to configure: engines tell each other's addresses through the answer."""


class NixlTransfer(Transfer):
    """``kv_transfer_params`` from the prefill leg's answer to the decode leg's request."""

    def __init__(self, handoff: Handoff) -> None:
        self._handoff = handoff
        self._params: Mapping[str, Any] | None = None
        self._usage = UsageChange()

    def prefill(self) -> LegRequest:
        request = self._handoff.request
        body = {**prefill_fields(request.fields), PARAMS: dict(_ASKED)}
        return leg_request(request, self._handoff.prefill, body)

    def prefilled(self, answer: Mapping[str, Any]) -> None:
        params = answer.get(PARAMS)
        if params is not None and not isinstance(params, dict):
            raise HandoffError(f"prefill leg: expected {PARAMS} to be an object, got {params!r}")
        self._params = self._reachable(params) if params else None
        self._usage = prefill_change(answer)

    def _reachable(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the prefill worker's host in place of one that the decode worker cannot mean."""
        told = params.get("remote_host")
        prefill, decode = url_host(self._handoff.prefill.url), url_host(self._handoff.decode.url)
        is_wrong = _is_unspecified(told) or (
            _is_loopback(told) and prefill != decode and not _is_loopback(prefill)
        )
        return {**params, "remote_host": prefill} if is_wrong else params

    def decode(self) -> LegRequest:
        request = self._handoff.request
        body = {name: value for name, value in request.fields.items() if name != PARAMS}
        if self._params is not None:  # none: a prompt below a block, or one that ended at once
            body[PARAMS] = self._params
        return leg_request(request, self._handoff.decode, body)

    def relay(self) -> AnswerRelay:
        return UsageRelay(self._usage)


class NixlConnector(Connector):
    """``--disagg-connector-type nixl``, the default."""

    name: ClassVar[str] = "nixl"
    options_type: ClassVar[type[Any]] = NixlOptions

    def __init__(self, options: NixlOptions) -> None:
        self.options = options

    def refusal(self, request: ClientRequest) -> str | None:
        return shared_refusal(request)

    def begin(self, handoff: Handoff) -> Transfer:
        return NixlTransfer(handoff)


def _is_unspecified(host: object) -> bool:
    return host in ("0.0.0.0", "::", "[::]")


def _is_loopback(host: object) -> bool:
    if not isinstance(host, str):
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False

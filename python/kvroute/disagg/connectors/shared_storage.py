"""Shared storage: the prefill engine writes the prompt's blocks where the decode engine reads them.

Source: vLLM's SharedStorageConnector (since 0.12 ExampleConnector), and llm-d-router,
pkg/sidecar/proxy/connector_shared_storage.go. Sequential; the legs name nothing to each other, the
storage finds the blocks by the prompt's tokens. A client's ``cache_hit_threshold``, under which an
engine gives a request back undone ("cache_threshold"), is 0 on both legs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kvroute.disagg.connector import AnswerRelay, Connector, Transfer
from kvroute.disagg.connectors.leg_requests import leg_request, prefill_fields
from kvroute.disagg.connectors.refusals import shared_refusal
from kvroute.disagg.legs import ClientRequest, Handoff, LegRequest
from kvroute.disagg.usage import UsageChange, UsageRelay, prefill_change

_THRESHOLD = "cache_hit_threshold"


@dataclass(frozen=True, slots=True)
class SharedStorageOptions:
    """Nothing to configure: the engines know their storage."""


class SharedStorageTransfer(Transfer):
    """The same prompt twice, the first time for one token."""

    def __init__(self, handoff: Handoff) -> None:
        self._handoff = handoff
        self._usage = UsageChange()
        self._fields = dict(handoff.request.fields)
        self._fields.pop("kv_transfer_params", None)
        if self._fields.get(_THRESHOLD) is not None:
            self._fields[_THRESHOLD] = 0

    def prefill(self) -> LegRequest:
        handoff = self._handoff
        return leg_request(handoff.request, handoff.prefill, prefill_fields(self._fields))

    def prefilled(self, answer: Mapping[str, Any]) -> None:
        self._usage = prefill_change(answer)

    def decode(self) -> LegRequest:
        return leg_request(self._handoff.request, self._handoff.decode, self._fields)

    def relay(self) -> AnswerRelay:
        return UsageRelay(self._usage)


class SharedStorageConnector(Connector):
    """``--disagg-connector-type shared_storage``."""

    name: ClassVar[str] = "shared_storage"
    options_type: ClassVar[type[Any]] = SharedStorageOptions

    def __init__(self, options: SharedStorageOptions) -> None:
        self.options = options

    def refusal(self, request: ClientRequest) -> str | None:
        return shared_refusal(request)

    def begin(self, handoff: Handoff) -> Transfer:
        return SharedStorageTransfer(handoff)

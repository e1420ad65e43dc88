"""Which roles engines can have under a connector, and which ones a fleet is without."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Protocol

from kvroute.disagg.connector import Connector
from kvroute.frontend.disagg_settings import SENT_LEGS, Role, serves
from kvroute.frontend.protocols import Phase

logger = logging.getLogger("kvroute.frontend")


class Configured(Protocol):
    """What is asked of a configured backend."""

    @property
    def url(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def role(self) -> Role: ...
    @property
    def decoder_serves_whole(self) -> bool: ...


def check_role(role: Role, connector: type[Connector] | None) -> None:
    """Raises ValueError where an engine under a connector has no such role. `connector` is None
    where clients send the legs."""
    if role == "both" and connector is not None and not connector.serves_whole:
        raise ValueError(
            f"expected prefill, decode or whole, got both: an engine of {connector.name} prefills "
            "or decodes, or has no part in that and serves whole requests"
        )
    if role == "whole" and connector is None:
        raise ValueError(
            f"expected prefill, decode or both, got whole: with {SENT_LEGS} every request is a leg"
        )


def check_roles(backends: Collection[Configured], connector: type[Connector]) -> None:
    """The same for all. Raises ValueError naming the setting and the backend."""
    for backend in backends:
        try:
            check_role(backend.role, connector)
        except ValueError as error:
            raise ValueError(f"static_model_labels: {backend.url}: {error}") from None


def warn_of_missing_roles(
    backends: Sequence[Configured], connector: str, *, has_threshold: bool
) -> None:
    """Says in the log which models nobody prefills, decodes or, where a threshold may want that,
    serves whole."""

    def without(phase: Phase) -> list[str]:
        served = {
            backend.model
            for backend in backends
            if serves(backend.role, phase, decoder_serves_whole=backend.decoder_serves_whole)
        }
        return sorted({backend.model for backend in backends} - served)

    phases: tuple[Phase, ...] = ("prefill", "decode")
    for phase in phases:
        for model in without(phase):
            logger.warning("the model %s has no %s worker yet", model, phase)
    for model in without("whole") if has_threshold else ():
        logger.warning(
            "the model %s has no worker that serves whole requests, which a decode worker of %s "
            "may not: thresholds count for nothing",
            model,
            connector,
        )

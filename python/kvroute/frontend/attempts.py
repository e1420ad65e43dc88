"""What is known of a request while it is tried in two legs, and the errors that end it."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvroute.disagg.legs import ClientRequest
from kvroute.frontend.errors import (
    ApiError,
    bad_request,
    come_back,
    gateway_error,
    no_backend,
    no_room,
)
from kvroute.frontend.legs import LegFailedError
from kvroute.frontend.protocols import Selection
from kvroute.frontend.waiting import RETRY_AFTER

REFUSED = "protocol_"
"""Begins the reason of a request that the connector refuses."""


@dataclass(slots=True)
class Attempts:
    """The attempts at one request.

    Attributes:
        request: None once no further attempt can follow: it is large.
        made: in two legs, and to go on with an answer that had begun.
        prefill: the workers at which a prefill leg failed.
        decode: those at which a decode leg did.
        last: the last failure.
        whole_at: who takes the request if it goes whole; None where that is not settled.
    """

    request: ClientRequest | None
    made: int = 0
    prefill: set[str] = field(default_factory=set)
    decode: set[str] = field(default_factory=set)
    last: LegFailedError | None = None
    whole_at: Selection | None = None


def gave_up(attempts: int, last: LegFailedError) -> ApiError:
    """No attempt was left, or nobody to make one with."""
    many = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    return _failure(f"{many} in two legs failed; the last, the {last.leg} leg: {last}", last)


def not_whole(connector: str, reason: str, last: LegFailedError | None) -> ApiError:
    """Why a request that no worker may serve whole is not served at all."""
    if reason.startswith(REFUSED):
        name = reason.removeprefix(REFUSED)
        message = f"{name}: {connector} serves no such request, and no worker serves whole requests"
        return bad_request(message, name)
    if last is not None:
        message = f"the {last.leg} leg: {last}; no worker is left that serves whole requests"
        return _failure(message, last)
    message = f"no prefill worker takes the request ({reason}), and no worker serves whole requests"
    return no_room(message, RETRY_AFTER) if reason == "prefill_saturated" else no_backend(message)


def _failure(message: str, last: LegFailedError) -> ApiError:
    """What tells a client to come back later is passed on; else what became of the last leg."""
    if last.status in (429, 503):
        return come_back(last.status, message, last.retry_after)
    return gateway_error(last.reason, message)

"""One request on its way to a replica, as the router sees it."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, field
from typing import Any

from kvroute.ray_serve.attempts import Attempt
from kvroute.ray_serve.bookings import Booking, HashedPrompt
from kvroute.ray_serve.calls import RoutedCall

_ATTRIBUTE = "_kvroute_routing"
_numbers = itertools.count(1)


@dataclass(slots=True, eq=False)
class Routing:
    """Lives on Ray's PendingRequest, from its first attempt to its last. For the event loop that
    routes it."""

    metadata: Any
    """Ray's RequestMetadata, as the request came with it."""
    prompt: HashedPrompt
    call: RoutedCall | None = None
    underway: bool = False
    """Whether Serve looks for a replica now: only then a choice books."""
    booking: Booking | None = None
    """At the replica that was chosen last, as long as Serve has taken none."""
    ranks: dict[str, int] = field(default_factory=dict)
    """The best data-parallel rank of each replica, by the last choice."""
    attempt: Attempt | None = None
    """The replica that Serve took last."""

    @staticmethod
    def of(pending: Any) -> Routing | None:
        routing: Routing | None = getattr(pending, _ATTRIBUTE, None)
        return routing

    def begin(self, pending: Any) -> None:
        """Gives the request an id of its own while Serve looks for a replica: calls that one HTTP
        request makes share theirs, and Serve would keep only one of those that wait."""
        alone = copy.copy(self.metadata)
        alone.internal_request_id = f"{self.metadata.internal_request_id}#{next(_numbers)}"
        pending.metadata = alone
        setattr(pending, _ATTRIBUTE, self)
        self.underway = True

    def end(self, pending: Any) -> Booking | None:
        """The search is over; gives the booking that is left."""
        self.underway = False
        pending.metadata = self.metadata
        booking, self.booking = self.booking, None
        return booking

    def withdraw(self) -> None:
        """What was chosen before is chosen anew."""
        booking, self.booking = self.booking, None
        if booking is not None:
            booking.withdraw()

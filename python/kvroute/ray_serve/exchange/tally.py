"""An exchange's counters."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)


@dataclass
class Tally:
    """Since the start; written by the exchange's threads, read by any.

    dropped: bookings that were not exchanged, own or a peer's, since a bound was reached or they
    cannot be told or booked. resyncs: connections given up for unsent bytes. rejected: connections
    refused or cut off for what came over them, or did not come. unmet: members that no connection
    was made to since there were `max_peers` others, counted each time that they were listed.
    """

    sent_batches: int = 0
    sent_operations: int = 0
    sent_bytes: int = 0
    received_batches: int = 0
    received_operations: int = 0
    received_bytes: int = 0
    applied: int = 0
    dropped: int = 0
    resyncs: int = 0
    rejected: int = 0
    unmet: int = 0
    connects: int = 0
    failed_connects: int = 0
    rendezvous_failures: int = 0
    _logged: set[str] = field(default_factory=set, repr=False)

    def numbers(self) -> dict[str, int]:
        return {name: value for name, value in vars(self).items() if name[0] != "_"}

    def log_once(self, what: str, message: str, *details: object) -> None:
        """A warning, where none was given for `what` before."""
        if what not in self._logged:
            self._logged.add(what)
            logger.warning(message, *details)

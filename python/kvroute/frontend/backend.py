"""One engine, as the frontend knows it."""

from __future__ import annotations

import logging

from kvroute.frontend.disagg_settings import Role, serves
from kvroute.frontend.metrics import WorkerMetrics
from kvroute.frontend.protocols import Phase
from kvroute.frontend.settings import BackendSettings
from kvroute.frontend.worker_watch import WorkerWatch

logger = logging.getLogger("kvroute.frontend")


class Backend:
    """One engine. Its URL is its worker's name."""

    def __init__(self, settings: BackendSettings, block_size: int, metrics: WorkerMetrics) -> None:
        self.url = settings.url
        self.model = settings.model
        self.dp_ranks = settings.dp_ranks
        self.role: Role = settings.role
        """From the next request on; what runs goes on."""
        self.decoder_serves_whole = settings.decoder_serves_whole
        self.running = 0
        """Bookings that are not released."""
        self.metrics = metrics
        metrics.in_flight.set_function(lambda: self.running)
        self.watch = WorkerWatch(settings, block_size, metrics)
        self.healthy = True
        self._down_until = 0.0
        self._warned = False

    def takes_requests(self, now: float) -> bool:
        return self.healthy and now >= self._down_until

    def serves(self, phase: Phase) -> bool:
        """Whether its role lets it."""
        return serves(self.role, phase, decoder_serves_whole=self.decoder_serves_whole)

    def set_healthy(self, healthy: bool) -> None:
        """What a health check found; holds until the next one."""
        self.healthy = healthy
        self.metrics.healthy.set(1 if healthy else 0)

    def misses_model(self, listed: list[str]) -> None:
        """The engine lists other models than the configured one; said once in the log."""
        if not self._warned:
            self._warned = True
            logger.warning(
                "%s does not list the model %r that it is configured to serve; it lists %s",
                self.url,
                self.model,
                ", ".join(listed)[:500],
            )

    def rest(self, until: float) -> None:
        """No requests before `until` (monotonic seconds) while others can take them."""
        self._down_until = until

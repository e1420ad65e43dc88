"""Brings a router's numbers to Ray's metrics, and so to its dashboard and Prometheus."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from kvroute import RouterStats, TargetStats
from kvroute.ray_serve.counters import Counters
from kvroute.ray_serve.instruments import Instruments

logger = logging.getLogger(__name__)

ExchangeStats = Callable[[], Mapping[str, Any]]

_COUNTERS = {
    "decisions": "Choices that the core made for a prompt.",
    "prompt_tokens": "Prompt tokens of the decisions.",
    "cached_tokens": "Prompt tokens that the chosen replica held at the decision.",
    "balanced": "Choices by load alone, for requests without token ids.",
    "missing_token_ids": "Requests without token ids.",
    "malformed_token_ids": "Requests whose token ids could not be read.",
    "routed": "Attempts that a replica took.",
    "completed": "Attempts that ended.",
    "retries": "Attempts that a replica rejected.",
    "moved": "Requests that another replica took than the one chosen first.",
    "replicas_died": "Replicas that died.",
    "malformed_facts": "What replicas stated of themselves and could not be read.",
}
_FALLBACKS = "Choices that went by Serve's own order, by reason."
_REFUSALS = "Requests that got an error in place of a replica, by the error's name."
_CHOOSE_SECONDS = "Time of choose_replicas."
_SELECTIONS = "Times that the replica was chosen."

_REPLICA_GAUGES: dict[str, tuple[str, Callable[[TargetStats], int]]] = {
    "held_blocks": (
        "Blocks that the replica holds on its device, as known here.",
        lambda target: target.held_blocks,
    ),
    "active_requests": (
        "Running requests booked on the replica.",
        lambda target: target.active_requests,
    ),
    "active_prefill_tokens": (
        "Uncached prompt tokens of booked requests without a first token.",
        lambda target: target.active_prefill_tokens,
    ),
    "event_streams": (
        "Event streams of the replica that are connected.",
        lambda target: target.events["connected"],
    ),
    "lost_event_batches": (
        "Event batches of the replica that were lost and not replayed.",
        lambda target: target.events["lost_batches"],
    ),
}
"""Of a replica, each the sum over its data-parallel ranks."""

_ROUTER_GAUGES: dict[str, tuple[str, Callable[[RouterStats], int]]] = {
    "replicas": (
        "Replicas known to the router.",
        lambda stats: len({target.worker for target in stats.targets}),
    ),
    "reservations": ("Bookings that are not released.", lambda stats: stats.reservations),
    "index_bytes": ("Memory of the index.", lambda stats: sum(i.bytes for i in stats.indexes)),
    "index_blocks": (
        "Distinct blocks in the index.",
        lambda stats: sum(i.blocks for i in stats.indexes),
    ),
}


class MetricsPublisher:
    """A daemon thread that publishes every `interval_s` seconds: the counters by what they grew,
    and the router's state as gauges.

    Nothing here is called for a request, and nothing raises: what fails is logged once, and tried
    again at the next interval. Series are named kvroute_... and have the tags `application` and
    `deployment`; those of a replica also `replica`, its name among the router's workers; those by
    reason also `reason`. The gauges of a replica that is gone are set to 0.
    """

    def __init__(
        self,
        *,
        application: str,
        deployment: str,
        counters: Counters,
        router_stats: Callable[[], RouterStats | None],
        interval_s: float = 5.0,
        exchange_stats: ExchangeStats | None = None,
    ) -> None:
        """`router_stats` gives those of the router, None while there is none. `exchange_stats`
        gives the exchange's figures by name; each number among them becomes the gauge
        kvroute_exchange_<name>."""
        self._tags = {"application": application, "deployment": deployment}
        self._counters = counters
        self._router_stats = router_stats
        self._interval_s = interval_s
        self._exchange_stats = exchange_stats
        self._instruments: Instruments | None = None
        self._replicas: set[str] = set()
        self._failed: set[str] = set()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kvroute-ray-metrics", daemon=True)

    def start(self) -> None:
        """Once."""
        self._thread.start()

    def close(self, timeout_s: float = 2.0) -> None:
        """Publishes what is not published yet, sets the gauges to 0 and ends the thread; waits for
        it at most `timeout_s`. Call it before the router is closed. Idempotent."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def publish(self) -> None:
        """What the thread does at each interval. From one thread at a time."""
        self._attempt("counters", self._publish_counters)
        self._attempt("router", self._publish_router)
        if self._exchange_stats is not None:
            self._attempt("exchange", self._publish_exchange, self._exchange_stats)

    def _run(self) -> None:
        while not self._closing.wait(self._interval_s):
            self.publish()
        self.publish()
        self._attempt("end", self._publish_end)

    def _attempt(self, what: str, publish: Callable[..., None], *arguments: Any) -> None:
        try:
            if self._instruments is None:
                from ray.util import metrics  # after Ray is connected, and never for a request

                self._instruments = Instruments(metrics, self._tags)
            publish(self._instruments, *arguments)
        except Exception:
            if what not in self._failed:
                self._failed.add(what)
                logger.warning("Metrics (%s) could not be published", what, exc_info=True)

    def _publish_counters(self, instruments: Instruments) -> None:
        counters = self._counters
        for name, total in counters.totals().items():
            instruments.grow(name, _COUNTERS[name], total)
        for reason, total in list(counters.fallbacks.items()):
            instruments.grow("fallbacks", _FALLBACKS, total, reason=reason)
        for reason, total in list(counters.refusals.items()):
            instruments.grow("refusals", _REFUSALS, total, reason=reason)
        instruments.observe("choose_seconds", _CHOOSE_SECONDS, counters.choose_seconds)

    def _publish_router(self, instruments: Instruments) -> None:
        stats = self._router_stats()
        if stats is None:
            return
        for name, (text, of_router) in _ROUTER_GAUGES.items():
            instruments.set(name, text, of_router(stats))
        replicas = _by_replica(stats)
        for replica, ranks in replicas.items():
            chosen = sum(rank.selections for rank in ranks)
            instruments.grow("selections", _SELECTIONS, chosen, replica=replica)
            for name, (text, of_rank) in _REPLICA_GAUGES.items():
                instruments.set(name, text, sum(map(of_rank, ranks)), replica=replica)
        self._drop(instruments, self._replicas - replicas.keys())
        self._replicas = set(replicas)

    def _publish_exchange(self, instruments: Instruments, exchange_stats: ExchangeStats) -> None:
        for name, value in exchange_stats().items():
            if isinstance(value, (int, float)):
                instruments.set(f"exchange_{name}", "Exchange of bookings: see its stats.", value)

    def _publish_end(self, instruments: Instruments) -> None:
        for name, (text, _) in _ROUTER_GAUGES.items():
            instruments.set(name, text, 0)
        self._drop(instruments, self._replicas)

    def _drop(self, instruments: Instruments, replicas: set[str]) -> None:
        """Ray keeps a gauge's last value for as long as the process lives."""
        for replica in replicas:
            instruments.forget("selections", replica=replica)
            for name, (text, _) in _REPLICA_GAUGES.items():
                instruments.set(name, text, 0, replica=replica)


def _by_replica(stats: RouterStats) -> dict[str, list[TargetStats]]:
    replicas: dict[str, list[TargetStats]] = {}
    for target in stats.targets:
        replicas.setdefault(str(target.worker), []).append(target)
    return replicas

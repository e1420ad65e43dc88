"""The frontend's own numbers, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_MICROSECOND = 1e-6
# Fine enough that p50 and p99 of a decision of some tens of microseconds can be read from them.
_DECISION_BUCKETS = [
    step * decade * _MICROSECOND
    for decade in (1, 10, 100, 1000, 10000)
    for step in (1, 1.5, 2, 3, 4, 5, 6, 8)
]
_TTFT_BUCKETS = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2.5, 5, 7.5, 10,
    20, 40, 80, 160, 320, 640,
]  # fmt: skip
_TOKENIZE_BUCKETS = [
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2,
]  # fmt: skip
_QUEUE_BUCKETS = [
    0.0001, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300,
]  # fmt: skip
_TOKEN_BUCKETS = [0, 16, 64, 256, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 1 << 20]

StatsSource = Callable[[], Iterable[tuple[str, Any]]]


class WorkerMetrics:
    """One worker's counters, looked up once."""

    def __init__(self, metrics: Metrics, model: str, worker: str) -> None:
        labels = (model, worker)
        self.requests = metrics.requests.labels(*labels)
        self.in_flight = metrics.in_flight.labels(*labels)
        self.prompt_tokens = metrics.prompt_tokens.labels(*labels)
        self.overlap_tokens = metrics.overlap_tokens.labels(*labels)
        self.time_to_first_byte = metrics.time_to_first_byte.labels(*labels)
        self.healthy = metrics.healthy.labels(*labels)
        self.healthy.set(1)
        self._roles = metrics.roles
        self._failures = metrics.failures
        self._engine_stats = metrics.engine_stats
        self._compared = metrics.compared_requests.labels(*labels)
        self._predicted = metrics.predicted_tokens.labels(*labels)
        self._reported = metrics.reported_tokens.labels(*labels)
        self._mismatches = metrics.length_mismatches.labels(*labels)
        self._problems = metrics.cache_problems
        self._labels = labels

    def failure(self, reason: str) -> None:
        self._failures.labels(*self._labels, reason).inc()

    def role(self, role: str, before: str | None = None) -> None:
        """What the worker does from now on, and what it did `before`."""
        if before is not None:
            self._roles.labels(*self._labels, before).set(0)
        self._roles.labels(*self._labels, role).set(1)

    def engine_stats(self, outcome: str) -> None:
        self._engine_stats.labels(*self._labels, outcome).inc()

    def compared(self, requests: int, predicted: int, reported: int, mismatches: int) -> None:
        """Adds to what was compared with the engine's reports."""
        if requests:
            self._compared.inc(requests)
            self._predicted.inc(predicted)
            self._reported.inc(reported)
        if mismatches:
            self._mismatches.inc(mismatches)

    def cache_problem(self, cause: str, there: bool) -> None:
        self._problems.labels(*self._labels, cause).set(1 if there else 0)


class Metrics:
    """A registry of its own, so that several apps may live in one process."""

    def __init__(self, stats: StatsSource) -> None:
        """`stats` gives (model, RouterStats) of every router; asked at each scrape."""
        self.registry = CollectorRegistry()
        of_worker = ["model", "worker"]

        def counter(name: str, text: str, labels: list[str]) -> Counter:
            return Counter(f"kvroute_{name}", text, labels, registry=self.registry)

        def histogram(
            name: str, text: str, labels: list[str], buckets: Sequence[float]
        ) -> Histogram:
            return Histogram(
                f"kvroute_{name}", text, labels, buckets=buckets, registry=self.registry
            )

        self.requests = counter("requests", "Requests sent to a worker.", of_worker)
        self.failures = counter(
            "request_failures",
            "Requests that a worker did not serve: unreachable, timeout, broken, status_5xx.",
            [*of_worker, "reason"],
        )
        self.engine_stats = counter(
            "engine_stats",
            "Readings of a worker's own metrics: read, failed, unknown (no series that we know), "
            "skipped (no connection free).",
            [*of_worker, "outcome"],
        )
        self.rejected = counter(
            "rejected_requests", "Requests answered by the frontend itself, by status.", ["status"]
        )
        self.reroutes = counter("reroutes", "Requests sent on to another worker.", ["model"])
        self.two_leg_requests = counter(
            "disagg_two_leg_requests", "Requests that were answered in two legs.", ["model"]
        )
        self.whole_requests = counter(
            "disagg_whole_requests",
            "Requests of a disaggregated fleet that could not go in two legs, by the reason.",
            ["model", "reason"],
        )
        self.leg_failures = counter(
            "disagg_leg_failures",
            "Legs that failed, by leg (prefill, decode) and reason.",
            ["model", "leg", "reason"],
        )
        self.client_gone = counter(
            "client_disconnects", "Clients that left before their answer was complete.", ["model"]
        )
        self.tokenizations = counter(
            "tokenizations",
            "Prompts by the source of their tokens: request, local, engine, none (load only).",
            ["model", "source"],
        )
        self.prompt_tokens = counter("prompt_tokens", "Prompt tokens routed.", of_worker)
        self.overlap_tokens = counter(
            "overlap_tokens", "Prompt tokens that the chosen worker held at selection.", of_worker
        )
        self.compared_requests = counter(
            "cache_compared_requests",
            "Answers whose reported cached tokens were compared with the router's prediction.",
            of_worker,
        )
        self.predicted_tokens = counter(
            "cache_predicted_tokens",
            "Cached prompt tokens that the router predicted for these.",
            of_worker,
        )
        self.reported_tokens = counter(
            "cache_reported_tokens",
            "Cached prompt tokens that the engine reported for these.",
            of_worker,
        )
        self.length_mismatches = counter(
            "prompt_length_mismatches",
            "Answers that count another number of prompt tokens than the router.",
            of_worker,
        )
        self.cache_problems = Gauge(
            "kvroute_cache_problem",
            "1 while it holds, by cause: misses, unforeseen_hits, prompt_length, no_events, "
            "unreported, reports_ended.",
            [*of_worker, "cause"],
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "kvroute_requests_in_flight",
            "Requests at a worker that have not ended.",
            of_worker,
            registry=self.registry,
        )
        self.healthy = Gauge(
            "kvroute_worker_healthy",
            "1 while the worker takes requests.",
            of_worker,
            registry=self.registry,
        )
        self.roles = Gauge(
            "kvroute_worker_role",
            "1 for the role that the worker has, where workers have roles: both, prefill, decode.",
            [*of_worker, "role"],
            registry=self.registry,
        )
        self.decision_time = histogram(
            "decision_seconds",
            "Time to choose and book a worker.",
            ["model"],
            _DECISION_BUCKETS,
        )
        self.decisions = counter(
            "decisions",
            "Requests booked, by the policy that decided and the phase: whole, prefill, decode.",
            ["model", "rule", "phase"],
        )
        self.hit_tokens = histogram(
            "hit_tokens",
            "Prompt tokens that the chosen worker held at selection, of each request with tokens.",
            ["model"],
            _TOKEN_BUCKETS,
        )
        self.queue_length = Gauge(
            "kvroute_queue_waiting",
            "Requests that wait for a worker to have room.",
            ["model"],
            registry=self.registry,
        )
        self.queue_refusals = counter(
            "queue_refusals",
            "Requests that got no room: full (too many wait already), timeout.",
            ["model", "reason"],
        )
        self.queue_time = histogram(
            "queue_seconds",
            "From a request's admission to the queue to its booking, also of those that needed "
            "not wait.",
            ["model"],
            _QUEUE_BUCKETS,
        )
        self.tokenize_time = histogram(
            "tokenize_seconds", "Time to get a prompt's tokens.", ["model"], _TOKENIZE_BUCKETS
        )
        self.time_to_first_byte = histogram(
            "time_to_first_token_seconds",
            "From the request's arrival to the first byte of an answer that is no error.",
            of_worker,
            _TTFT_BUCKETS,
        )
        self.registry.register(_RouterCollector(stats))

    def text(self) -> bytes:
        """The exposition in Prometheus' text format."""
        return generate_latest(self.registry)


class _RouterCollector(Collector):
    def __init__(self, stats: StatsSource) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        families = _Families()
        for model, stats in self._stats():
            families.add(model, stats)
        yield from families.all()


class _Families:
    """RouterStats as metric families; see ``kvroute.RouterStats`` for what each field means."""

    _TARGET_GAUGES = (
        ("active_requests", "Reservations that are not released."),
        ("active_prefill_tokens", "Booked prompt tokens that are not computed yet."),
        ("active_blocks", "Booked blocks."),
        ("held_blocks", "Blocks in the target's cache, exact and predicted."),
        ("waiting", "Requests waiting in the engine, as last reported."),
        ("running", "Requests running in the engine, as last reported."),
        ("kv_usage", "Share of the engine's cache in use, as last reported."),
    )
    _STREAM_GAUGES = (
        ("last_sequence", "Number of the last batch of the target's event stream, -1 before it."),
        ("connected", "1 while the target's event stream is connected."),
        ("partial", "1 while a part of the target's blocks may be missing."),
    )
    _INDEX_GAUGES = (
        ("blocks", "Distinct blocks in the index."),
        ("held", "Pairs of target and block on its device."),
        ("held_lower", "Triples of target, block and tier below the device."),
        ("predicted", "Pairs that are assumed from the router's own decisions."),
        ("waiting", "Blocks that wait for the event of their parent."),
        ("nodes", "Nodes of the index."),
        ("bytes", "Memory of the index."),
    )

    def __init__(self) -> None:
        of_target = ["model", "worker", "dp_rank"]
        self._targets = {
            name: GaugeMetricFamily(f"kvroute_target_{name}", text, labels=of_target)
            for name, text in self._TARGET_GAUGES
        }
        self._selections = CounterMetricFamily(
            "kvroute_target_selections", "Times the target was chosen.", labels=of_target
        )
        self._events = CounterMetricFamily(
            "kvroute_kv_events", "The target's event stream.", labels=[*of_target, "kind"]
        )
        self._stream_state = {
            name: GaugeMetricFamily(f"kvroute_kv_events_{name}", text, labels=of_target)
            for name, text in self._STREAM_GAUGES
        }
        self._indexes = {
            name: GaugeMetricFamily(f"kvroute_index_{name}", text, labels=["model", "block_size"])
            for name, text in self._INDEX_GAUGES
        }
        self._memory = GaugeMetricFamily(
            "kvroute_index_memory_bytes",
            "Memory of the index by what it is for.",
            labels=["model", "block_size", "kind"],
        )
        self._blocks = CounterMetricFamily(
            "kvroute_index_block_changes",
            "Blocks by what became of them in the index.",
            labels=["model", "block_size", "kind"],
        )
        self._forgotten = CounterMetricFamily(
            "kvroute_index_forgotten",
            "Pairs of target and block dropped to stay below the memory limit.",
            labels=["model", "block_size"],
        )
        self._reservations = GaugeMetricFamily(
            "kvroute_reservations", "Reservations that are not released.", labels=["model"]
        )
        self._expired = CounterMetricFamily(
            "kvroute_reservations_expired", "Reservations dropped by age.", labels=["model"]
        )

    def add(self, model: str, stats: Any) -> None:
        self._reservations.add_metric([model], stats.reservations)
        self._expired.add_metric([model], stats.expired_reservations)
        for target in stats.targets:
            labels = [model, str(target.worker), str(target.dp_rank)]
            for name, family in self._targets.items():
                value = getattr(target, name)
                if value is not None:
                    family.add_metric(labels, value)
            self._selections.add_metric(labels, target.selections)
            for kind, count in target.events.items():
                if kind in self._stream_state:
                    self._stream_state[kind].add_metric(labels, count)
                else:
                    self._events.add_metric([*labels, kind], count)
        for index in stats.indexes:
            labels = [model, str(index.block_size)]
            for name, family in self._indexes.items():
                family.add_metric(labels, getattr(index, name))
            for kind, size in index.bytes_by_kind.items():
                self._memory.add_metric([*labels, kind], size)
            for kind, count in index.counters.items():
                self._blocks.add_metric([*labels, kind], count)
            self._forgotten.add_metric(labels, index.forgotten)

    def all(self) -> Iterator[Metric]:
        yield from self._targets.values()
        yield self._selections
        yield self._events
        yield from self._stream_state.values()
        yield from self._indexes.values()
        yield self._memory
        yield self._blocks
        yield self._forgotten
        yield self._reservations
        yield self._expired

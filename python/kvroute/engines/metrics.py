"""A simulated engine's Prometheus metrics, under vLLM's names."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kvroute.engines.generation import Generation
from kvroute.engines.scheduler import Scheduler, StepResult

_LABELS = ("model_name", "engine")
_TTFT_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0,
)  # fmt: skip
_E2E_BUCKETS = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 240.0)


class EngineMetrics:
    """Counts what the scheduler does and what requests saw; `text` is the exposition.

    Times are real ones, of the sped-up engine.
    """

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, model: str, scheduler: Scheduler) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_StateGauges(model, scheduler))
        self._model = model
        self._queries = self._counter("prefix_cache_queries", "Prompt tokens looked up.")
        self._hits = self._counter("prefix_cache_hits", "Prompt tokens found in the cache.")
        self._preemptions = self._counter("num_preemptions", "Sequences preempted.")
        self._prompt = self._counter("prompt_tokens", "Prompt tokens computed or found.")
        self._generated = self._counter("generation_tokens", "Tokens generated.")
        self._success = Counter(
            "vllm:request_success",
            "Requests that ended.",
            (*_LABELS, "finished_reason"),
            registry=self._registry,
        )
        self._ttft = self._histogram(
            "time_to_first_token_seconds", "Time to first token.", _TTFT_BUCKETS
        )
        self._e2e = self._histogram(
            "e2e_request_latency_seconds", "Time to the last token.", _E2E_BUCKETS
        )

    def note_step(self, result: StepResult) -> None:
        """Count one step."""
        for sequence in result.admitted:
            if not sequence.preemptions:
                self._queries.inc(sequence.prompt_tokens)
                self._hits.inc(sequence.cached_tokens)
                self._prompt.inc(sequence.prompt_tokens)
        if result.preempted:
            self._preemptions.inc(len(result.preempted))
        if result.emitted:
            self._generated.inc(len(result.emitted))

    def note_finished(self, generation: Generation, now: float, reason: str) -> None:
        """Count a generation that ended with all its tokens."""
        self._success.labels(self._model, "0", reason).inc()
        self._ttft.observe(max(0.0, generation.first_token_at - generation.arrived_at))
        self._e2e.observe(max(0.0, now - generation.arrived_at))

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str) -> Counter:
        counter = Counter(f"vllm:{name}", text, _LABELS, registry=self._registry)
        return counter.labels(self._model, "0")

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        histogram = Histogram(
            f"vllm:{name}", text, _LABELS, registry=self._registry, buckets=buckets
        )
        return histogram.labels(self._model, "0")


class _StateGauges(Collector):
    """Reads the scheduler when it is scraped."""

    def __init__(self, model: str, scheduler: Scheduler) -> None:
        self._model = model
        self._scheduler = scheduler

    def collect(self) -> Iterator[Metric]:
        scheduler = self._scheduler
        cache = scheduler.cache
        values = (
            ("num_requests_running", "Requests in the batch.", scheduler.num_running),
            ("num_requests_waiting", "Requests that wait.", scheduler.num_waiting),
            ("kv_cache_usage_perc", "Share of KV blocks in use, 0 to 1.", cache.usage),
        )
        for name, text, value in values:
            gauge = GaugeMetricFamily(f"vllm:{name}", text, labels=_LABELS)
            gauge.add_metric((self._model, "0"), float(value))
            yield gauge
        info = {
            "block_size": str(scheduler.block_size),
            "cache_dtype": "auto",
            "enable_prefix_caching": "True",
            "engine": "0",
            "num_gpu_blocks": str(cache.num_blocks),
        }
        config = GaugeMetricFamily(
            "vllm:cache_config_info", "The KV cache's configuration.", labels=tuple(info)
        )
        config.add_metric(tuple(info.values()), 1.0)
        yield config

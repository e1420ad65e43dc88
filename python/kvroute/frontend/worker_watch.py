"""One worker's watches, and what they find, in the log and the metrics."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple

from kvroute.frontend.answer_tail import Tail, Usage, usage_of
from kvroute.frontend.cache_watch import CacheWatch, Finding
from kvroute.frontend.event_watch import EventWatch, stream_in_words, why_silent
from kvroute.frontend.metrics import WorkerMetrics
from kvroute.frontend.miss_causes import LIKELY
from kvroute.frontend.prompts import PromptRequest, TokenIds
from kvroute.frontend.protocols import Router, Selection
from kvroute.frontend.settings import BackendSettings

logger = logging.getLogger("kvroute.frontend")


class Expected(NamedTuple):
    """What the router knew of a request when it chose its target."""

    prompt_tokens: int
    cached_tokens: int
    dp_rank: int


def expected_of(
    request: PromptRequest, prompts: list[TokenIds], choice: Selection
) -> Expected | None:
    """None for what an answer's usage cannot be compared with: several prompts or copies, unknown
    tokens, prompts whose own probabilities are asked for (engines compute those anew)."""
    if len(prompts) != 1 or not prompts[0] or request.copies != 1:
        return None
    if request.fields.get("prompt_logprobs") is not None or request.fields.get("echo"):
        return None
    return Expected(len(prompts[0]), choice.cached_tokens, choice.dp_rank)


class WorkerWatch:
    """Compares answers with what was expected of them. Warns once of each cause, and again only
    after it had ended. Its state ends with the worker's `Backend`."""

    def __init__(self, worker: BackendSettings, block_size: int, metrics: WorkerMetrics) -> None:
        self._url = worker.url
        self._endpoint = worker.kv_events
        self._block_size = block_size
        self._metrics = metrics
        self._cache = CacheWatch(block_size)
        self._events = [EventWatch() for _ in range(worker.dp_ranks if worker.kv_events else 0)]

    def answered(self, expected: Expected, tail: Tail, router: Router) -> None:
        """Takes the end of a request's whole answer of status 200."""
        usage = usage_of(tail)
        cache = self._cache
        before = (
            cache.compared,
            cache.predicted_tokens,
            cache.reported_tokens,
            cache.length_mismatches,
        )
        found = cache.note(expected.prompt_tokens, expected.cached_tokens, usage)
        self._metrics.compared(
            cache.compared - before[0],
            cache.predicted_tokens - before[1],
            cache.reported_tokens - before[2],
            cache.length_mismatches - before[3],
        )
        for finding in found:
            self._tell(finding, router)
        rank = expected.dp_rank
        if (
            rank < len(self._events)
            and self._stored_a_block(expected, usage)
            and self._events[rank].note_stored()
        ):
            self._look_at_events(rank, router)

    def _stored_a_block(self, expected: Expected, usage: Usage) -> bool:
        """Whether the prompt brought a new block into the cache, as far as is known. The last
        token's block does not count: it is computed anew though it is there."""
        cached = max(expected.cached_tokens, usage.cached_tokens or 0)
        return (expected.prompt_tokens - 1) // self._block_size > cached // self._block_size

    def _tell(self, finding: Finding, router: Router) -> None:
        self._metrics.cache_problem(finding.cause, finding.begun)
        if not finding.begun:
            logger.info("%s: %s: well again: %s", self._url, finding.cause, finding.numbers)
            return
        level = logging.INFO if finding.cause == "unreported" else logging.WARNING
        logger.log(
            level,
            "%s: %s: %s. %s. Its KV events: %s",
            self._url,
            finding.cause,
            finding.numbers,
            LIKELY[finding.cause],
            self._events_in_words(router),
        )

    def _look_at_events(self, rank: int, router: Router) -> None:
        watch, counters = self._events[rank], self._counters(router).get(rank, {})
        if not watch.look(counters):
            return
        silent = any(one.silent for one in self._events)
        self._metrics.cache_problem("no_events", silent)
        if not watch.silent:
            logger.info("%s: no_events: well again: rank %d's events come", self._url, rank)
            return
        endpoint = f"{self._endpoint}" + (f" (+ {rank}, rank {rank}'s)" if rank else "")
        logger.warning(
            "%s: no_events: no KV event of a stored block has come though it answered %d requests "
            "that must have stored one: %s",
            self._url,
            watch.answered,
            why_silent(counters, endpoint, self._block_size),
        )

    def _events_in_words(self, router: Router) -> str:
        if not self._events:
            return "none configured (--kv-events)"
        counters = self._counters(router)
        if len(counters) == 1:
            return stream_in_words(next(iter(counters.values())))
        return "; ".join(f"rank {rank}: {stream_in_words(of)}" for rank, of in counters.items())

    def _counters(self, router: Router) -> dict[int, Mapping[str, int]]:
        """Of each rank's event stream."""
        return {
            target.dp_rank: target.events
            for target in router.stats().targets
            if target.worker == self._url
        }

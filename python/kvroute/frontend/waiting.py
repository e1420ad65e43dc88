"""Admission of requests: booked at once, or after a wait where a queue is configured."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Hashable
from typing import TypeVar

from kvroute.admission import AdmissionQueue, QueueFull, QueueTimeout
from kvroute.frontend.booking import Booking, PairBooking
from kvroute.frontend.errors import ApiError, bad_request, no_room
from kvroute.frontend.fleet import Fleet
from kvroute.frontend.intake import Job
from kvroute.frontend.model_group import ModelGroup
from kvroute.frontend.protocols import Phase, Selection
from kvroute.frontend.reserving import OverloadedError
from kvroute.frontend.settings import Settings

T = TypeVar("T", Booking, PairBooking)

_MAX_TENANT = 256
# What a client is told to wait where there is no queue to estimate it by.
RETRY_AFTER = 1.0


class Admission:
    """Books requests. Each model has a queue of its own, or none has one."""

    def __init__(self, settings: Settings, fleet: Fleet) -> None:
        self._metrics = fleet.metrics
        self._queues: dict[str, AdmissionQueue] = {}
        if settings.queue_limit == 0:
            return
        for group in fleet.groups.values():
            queue = AdmissionQueue(
                limit=settings.queue_limit,
                order=settings.queue_order,
                timeout=settings.queue_timeout,
                overload=OverloadedError,
            )
            self._queues[group.name] = queue
            group.made_room = queue.made_room
            self._metrics.queue_length.labels(group.name).set_function(queue.__len__)

    async def book(
        self, job: Job, excluded: set[str], phase: Phase = "whole", at: Selection | None = None
    ) -> Booking:
        """A booking of the job's prompts on a backend that is not `excluded`: where the choice `at`
        says, if it still takes them.

        Raises ApiError 503 where nobody can be chosen, with a Retry-After where all are over their
        thresholds: at once without a queue, else when it is full or the wait was too long.
        """
        if at is not None:
            with contextlib.suppress(OverloadedError, ApiError):
                return self.book_now(job, excluded, phase, at)
        eligibility = _eligibility(job.group, phase, excluded)
        return await self._admit(job, eligibility, lambda: self.book_now(job, excluded, phase))

    async def book_pair(
        self, job: Job, excluded_prefill: set[str], excluded_decode: set[str]
    ) -> PairBooking:
        """Bookings for both legs, prefill and decode, whose backends are chosen together. Waits and
        raises as `book` for the decode leg; NoPrefillWorkerError where nobody takes the other."""

        def attempt() -> PairBooking:
            started = time.perf_counter()
            pair = job.group.reserve_pair(
                job.prompts,
                job.request.copies,
                request_id=job.exchange.request_id,
                salt=job.request.salt,
                expected_output_tokens=job.request.expected_output_tokens,
                excluded_prefill=excluded_prefill,
                excluded_decode=excluded_decode,
            )
            elapsed = time.perf_counter() - started
            self._metrics.decision_time.labels(job.group.name).observe(elapsed)
            if pair.prefill.backend is pair.decode.backend:
                return pair  # nobody needs a pair of one: it goes whole, and is counted then
            phases: tuple[Phase, Phase] = ("prefill", "decode")
            for booking, phase in zip(pair, phases, strict=True):
                self._count(job, booking, phase)
            return pair

        eligibility = ("pair", frozenset(excluded_prefill), frozenset(excluded_decode))
        return await self._admit(job, eligibility, attempt)

    async def _admit(self, job: Job, eligibility: Hashable, attempt: Callable[[], T]) -> T:
        """What `attempt` gives, after a wait where it has to."""
        group = job.group
        queue = self._queues.get(group.name)
        if queue is None:
            try:
                return attempt()
            except OverloadedError as error:
                raise no_room(str(error), RETRY_AFTER) from error
        started = time.perf_counter()
        try:
            booking = await queue.admit(
                attempt,
                uncached_tokens=_uncached_tokens(group, job),
                priority=_priority(job),
                tenant=_tenant(job),
                eligibility=eligibility,
            )
        except QueueFull as error:
            self._metrics.queue_refusals.labels(group.name, "full").inc()
            raise no_room(f"all engines are busy; {error}", error.retry_after) from error
        except QueueTimeout as error:
            self._metrics.queue_refusals.labels(group.name, "timeout").inc()
            raise no_room(f"all engines are busy; {error}", error.retry_after) from error
        self._metrics.queue_time.labels(group.name).observe(time.perf_counter() - started)
        return booking

    def close(self) -> None:
        for queue in self._queues.values():
            queue.close()

    def book_now(
        self, job: Job, excluded: set[str], phase: Phase = "whole", at: Selection | None = None
    ) -> Booking:
        """The same without a wait, and nowhere else than `at`. OverloadedError where all are over
        their thresholds."""
        started = time.perf_counter()
        booking = job.group.reserve(
            job.prompts,
            job.request.copies,
            request_id=job.exchange.request_id,
            session_id=job.session_id,
            salt=job.request.salt,
            expected_output_tokens=job.request.expected_output_tokens,
            excluded=excluded,
            phase=phase,
            at=at,
        )
        elapsed = time.perf_counter() - started
        self._metrics.decision_time.labels(job.group.name).observe(elapsed)
        self._count(job, booking, phase)
        return booking

    def _count(self, job: Job, booking: Booking, phase: Phase) -> None:
        choice, name = booking.choice, job.group.name
        self._metrics.decisions.labels(name, choice.rule, phase).inc()
        if phase != "decode" and job.prompts[0]:  # a decode leg gets its prompt's blocks
            booking.backend.metrics.prompt_tokens.inc(len(job.prompts[0]))
            booking.backend.metrics.overlap_tokens.inc(choice.cached_tokens)
            self._metrics.hit_tokens.labels(name).observe(choice.cached_tokens)


def _eligibility(group: ModelGroup, phase: Phase, excluded: set[str]) -> Hashable:
    """Equal for requests that the same workers may serve, as `AdmissionQueue.admit` wants it."""
    if group.has_roles:
        return phase, frozenset(excluded)
    return frozenset(excluded) or None


def _uncached_tokens(group: ModelGroup, job: Job) -> Callable[[], int]:
    """Of all prompts and copies, as far as the first prompt's match tells; asked when it waits."""

    def uncached() -> int:
        first = job.prompts[0]
        cached = group.longest_match(first, job.request.salt) if first else 0
        return sum(len(ids) or 1 for ids in job.prompts) - cached

    return uncached


def _priority(job: Job) -> float:
    """The header's, else the body's, which vLLM orders its own queue by: lower comes first."""
    text = job.exchange.header("x-kvroute-priority")
    if text is None:
        value = job.request.fields.get("priority")
        return float(value) if type(value) is int and abs(value) < 2**53 else 0.0
    try:
        priority = float(text)
    except ValueError:
        priority = math.nan
    if not math.isfinite(priority):
        raise _wrong_header("x-kvroute-priority", "a number", text)
    return priority


def _tenant(job: Job) -> str:
    tenant = job.exchange.header("x-kvroute-tenant") or ""
    if len(tenant) > _MAX_TENANT:
        raise _wrong_header("x-kvroute-tenant", f"at most {_MAX_TENANT} characters", tenant)
    return tenant


def _wrong_header(name: str, expected: str, got: str) -> ApiError:
    return bad_request(f"the header {name}: expected {expected}, got {got[:40]!r}", name)

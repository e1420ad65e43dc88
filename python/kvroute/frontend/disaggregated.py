"""Completions in two legs: the prompt on a prefill worker, the answer from a decode worker."""

from __future__ import annotations

import logging
import time

from kvroute.disagg.condition import Condition
from kvroute.disagg.connector import Connector
from kvroute.disagg.estimate import estimate_tokens
from kvroute.disagg.legs import ClientRequest, Handoff, Worker
from kvroute.frontend.attempts import REFUSED, Attempts, gave_up, not_whole
from kvroute.frontend.booking import Booking, PairBooking
from kvroute.frontend.completions import Completions
from kvroute.frontend.errors import ApiError, connections_exhausted
from kvroute.frontend.fleet import Fleet
from kvroute.frontend.handover import FailureOf, Handover
from kvroute.frontend.intake import Job
from kvroute.frontend.legs import Leg, LegFailedError, RefusedError
from kvroute.frontend.prompts import MAX_PLANNED
from kvroute.frontend.reserving import NoPrefillWorkerError, OverloadedError
from kvroute.frontend.settings import Settings
from kvroute.frontend.token_source import TokenSource
from kvroute.frontend.upstream import Upstream, UpstreamBusyError
from kvroute.frontend.waiting import Admission

logger = logging.getLogger("kvroute.frontend")

# Reasons for which a request goes whole though two legs would do: not where nobody serves it so.
_CHOICES = ("below_threshold", "cached_at_decoder")


class Disaggregated:
    """Serves each request in two legs, or whole on a decode worker where that is right.

    A request goes whole where the condition says so, where the connector's protocol could not give
    one engine's content, where a prefill worker refuses its leg, and where none is left: counted,
    with the reason.

    What fails, as long as the client's answer has not begun: a prefill leg is tried on another
    prefill worker; a decode leg makes the whole plan anew without that decoder. Where it has begun
    with the prefill leg's token, another decode worker goes on after it. There are
    `max_instance_failover_reroute_attempts` more attempts in all. Every path releases both
    bookings.
    """

    def __init__(
        self,
        settings: Settings,
        fleet: Fleet,
        tokens: TokenSource,
        admission: Admission,
        upstream: Upstream,
        whole: Completions,
        connector: Connector,
    ) -> None:
        self._metrics = fleet.metrics
        self._tokens = tokens
        self._admission = admission
        self._upstream = upstream
        self._whole = whole
        self._connector = connector
        self._condition = Condition(settings.routing_threshold, settings.uncached_threshold)
        self._counts_exactly = settings.token_estimate == "auto"
        self._attempts = settings.max_instance_failover_reroute_attempts + 1
        self._prefill_timeout = settings.prefill_timeout_seconds
        self._chooses_pairs = settings.chooses_pairs

    async def serve(self, path: str, job: Job) -> None:
        """Answers a request to `path`. Raises ApiError if no worker gave an answer."""
        exchange, group = job.exchange, job.group
        job.prompts = await self._tokens.token_ids(
            group, job.request, headers=exchange.authorization()
        )
        request = ClientRequest(
            path,
            job.request.fields,
            [h for h in exchange.forwarded_headers() if h[0].lower() != b"x-data-parallel-rank"],
            job.prompts[0],
            exchange.request_id,
        )
        reason = self._reason_to_go_whole(job, request)
        tried = Attempts(request)
        del request  # its prompt is not to outlive the beginning of a long answer
        if reason is None:
            reason = await self._serve_in_two_legs(job, tried)
        if reason is None:
            return
        self._metrics.whole_requests.labels(group.name, reason).inc()
        if group.count("decode") and not group.count("whole"):
            raise not_whole(self._connector.name, reason, tried.last)
        tried.request = None
        await self._whole.answer(path, job, tried.decode, at=tried.whole_at)

    def _reason_to_go_whole(self, job: Job, request: ClientRequest) -> str | None:
        group = job.group
        ids, salt = job.prompts[0], job.request.salt
        if self._counts_exactly and all(job.prompts) and len(job.prompts) < MAX_PLANNED:
            length = sum(len(prompt) for prompt in job.prompts)
        else:
            length = estimate_tokens(request.fields)
        uncached = None
        if self._condition.uncached_threshold is not None and ids:
            uncached = len(ids) - group.longest_match(ids, salt, phase="decode")
        decision = self._condition.decide(
            length, prefill_workers=group.count_ready("prefill"), uncached_tokens=uncached
        )
        is_choice = decision.reason in _CHOICES and not group.count_ready("whole")
        if not decision.two_legs and not is_choice:
            return decision.reason
        refusal = self._connector.refusal(request)
        if refusal is not None:
            return REFUSED + refusal
        if self._connector.needs_token_ids and not ids:
            return f"{REFUSED}unknown_tokens"
        return None

    async def _serve_in_two_legs(self, job: Job, tried: Attempts) -> str | None:
        """None when the request was answered; else why it has to go whole."""
        exchange, group = job.exchange, job.group
        while tried.made < self._attempts:
            try:
                legs = await self._book_legs(job, tried)
            except ApiError:
                if not tried.decode:
                    raise
                break  # nobody but those that failed
            if isinstance(legs, str):
                return legs
            self._count_attempt(job, tried)
            prefill, decode = legs
            try:
                await self._hand_over(job, tried, prefill, decode)
                self._metrics.two_leg_requests.labels(group.name).inc()
                return None
            except RefusedError:
                if decode.backend.serves("whole"):
                    tried.whole_at = decode.choice
                return "prefill_refused"
            except UpstreamBusyError as error:
                if exchange.started:
                    return None
                raise connections_exhausted(str(error)) from error
            except LegFailedError as error:
                is_alone = error.also is None
                self._note_failure(job, error, prefill, decode, tried, is_alone=is_alone)
                if error.also is not None:
                    self._note_failure(job, error.also, prefill, decode, tried, is_alone=False)
                tried.last = error.without_frames()
                if error.resume is not None:
                    legs.release()
                    await self._resume(job, error, tried)
                    return None
                if exchange.started:
                    return None  # the client has been told so in its stream
            finally:
                legs.release()
        last = tried.last
        if last is None or last.leg == "prefill":
            return "prefill_failed"
        raise gave_up(tried.made, last)

    def _count_attempt(self, job: Job, tried: Attempts) -> None:
        if tried.made:
            self._metrics.reroutes.labels(job.group.name).inc()
        tried.made += 1

    async def _resume(self, job: Job, failure: LegFailedError, tried: Attempts) -> None:
        """Has other decode workers go on with an answer that has begun; an error event ends it
        where none does."""
        while tried.made < self._attempts:
            if failure.resume is None:
                return  # it broke off further on, and the client was told
            try:
                decode = await self._admission.book(job, tried.decode, phase="decode")
            except ApiError:
                break  # nobody but those that failed
            self._count_attempt(job, tried)
            try:
                await failure.resume(Leg("decode", decode, self._upstream))
                self._metrics.two_leg_requests.labels(job.group.name).inc()
                return
            except UpstreamBusyError:
                return  # the client was told
            except LegFailedError as error:
                failure = error
                self._note_failure(job, error, decode, decode, tried, is_alone=True)
            finally:
                decode.release()
        if failure.resume is not None:
            await job.exchange.end_with_error(gave_up(tried.made, failure))

    def _note_failure(
        self,
        job: Job,
        error: LegFailedError,
        prefill: Booking,
        decode: Booking,
        tried: Attempts,
        *,
        is_alone: bool,
    ) -> None:
        """Counts a leg's failure and leaves its worker out of further attempts, unless that may
        not have been its doing (the other leg failed too: not `is_alone`) and there is no other
        worker."""
        group = job.group
        logger.warning("request %s: %s leg: %s", job.exchange.request_id, error.leg, error)
        self._metrics.leg_failures.labels(group.name, error.leg, error.reason).inc()
        booking, out = (
            (prefill, tried.prefill) if error.leg == "prefill" else (decode, tried.decode)
        )
        is_certain = is_alone and not error.was_silent
        if is_certain or group.count_ready(error.leg) > len(out) + 1:
            out.add(booking.backend.url)
        if error.reason in ("unreachable", "status_5xx"):
            group.failed(booking.backend)

    async def _book_legs(self, job: Job, tried: Attempts) -> PairBooking | str:
        """Bookings of the prefill leg and the decode leg, on two workers; or why there is none of
        the first."""
        if not self._chooses_pairs:
            decode = await self._admission.book(job, tried.decode, phase="decode")
            try:
                prefill = self._book_prefill(job, tried.prefill, decode)
            except BaseException:
                decode.release()
                raise
            if isinstance(prefill, str):
                decode.release()
                return prefill
            return PairBooking(prefill, decode)
        try:
            pair = await self._admission.book_pair(job, tried.prefill, tried.decode)
        except NoPrefillWorkerError as error:
            if error.overloaded:
                return "prefill_saturated"
            return "prefill_failed" if tried.prefill else "no_prefill_worker"
        if pair.prefill.backend is not pair.decode.backend:
            return pair
        pair.release()
        tried.whole_at = pair.prefill.choice
        return "one_worker"  # of both roles: it is quickest without a transfer

    def _book_prefill(self, job: Job, failed: set[str], decode: Booking) -> Booking | str:
        """A booking on a prefill worker other than the decode leg's, or why there is none."""
        excluded = failed | {decode.backend.url}
        try:
            return self._admission.book_now(job, excluded, phase="prefill")
        except OverloadedError:
            return "prefill_saturated"
        except ApiError as error:
            if error.status != 503:
                raise
            return "prefill_failed" if failed else "no_prefill_worker"

    async def _hand_over(
        self, job: Job, tried: Attempts, prefill: Booking, decode: Booking
    ) -> None:
        assert tried.request is not None

        def began(status: int) -> None:
            if status >= 400:
                return
            metrics = decode.backend.metrics
            metrics.time_to_first_byte.observe(time.perf_counter() - job.started)
            job.group.answered(prefill.backend)
            job.group.answered(decode.backend)

        def settled() -> None:
            tried.request = None
            job.drop_inputs()

        legs = Leg("prefill", prefill, self._upstream), Leg("decode", decode, self._upstream)
        with FailureOf(legs[1]):
            handover = Handover(
                job.exchange,
                self._connector.begin(Handoff(tried.request, _worker(prefill), _worker(decode))),
                *legs,
                prefill_timeout=self._prefill_timeout,
                answer_headers=_route_headers(prefill, decode),
                may_go_whole=job.group.count_ready("whole") > 0,
                began=began,
                settled=settled,
            )
        await handover.run(concurrent=self._connector.is_concurrent)


def _worker(booking: Booking) -> Worker:
    backend = booking.backend
    return Worker(backend.url, booking.choice.dp_rank if backend.dp_ranks > 1 else None)


def _route_headers(prefill: Booking, decode: Booking) -> list[tuple[bytes, bytes]]:
    return [
        (b"x-kvroute-worker", decode.backend.url.encode()),
        (b"x-kvroute-dp-rank", b"%d" % decode.choice.dp_rank),
        (b"x-kvroute-prefill-worker", prefill.backend.url.encode()),
        (b"x-kvroute-cached-tokens", b"%d" % prefill.choice.cached_tokens),
    ]

"""What is done for a request, from its first attempt to its end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kvroute import InvalidArgument, KvRouter, Selection, hash_blocks
from kvroute.ray_serve.attempts import Attempt
from kvroute.ray_serve.bookings import NO_HASHES, Booking, HashedPrompt
from kvroute.ray_serve.errors import MissingTokenIdsError
from kvroute.ray_serve.membership import Allowed
from kvroute.ray_serve.ranking import Ranked, best_ranks, in_order, shuffled, tiers
from kvroute.ray_serve.routing import Routing
from kvroute.ray_serve.token_ids import Prompt, as_name

if TYPE_CHECKING:
    from kvroute.ray_serve.deployment_state import DeploymentState

_LOGGER = logging.getLogger("ray.serve")


class RequestPath:
    """A PendingRequest is its event loop's; everything else here is thread-safe.

    begin -> choose (any number of times) -> take or give_up -> sent -> completed; after `take` a
    request that the replica rejected begins again.
    """

    def __init__(self, state: DeploymentState) -> None:
        self._state = state
        self._options = state.options
        self._counters = state.counters
        # A task that has just taken a replica sends the request, or hears that it could not, before
        # anything else runs; or it asks for a slot, and does neither.
        self._just_taken: dict[asyncio.Task[Any] | None, Attempt] = {}

    async def begin(self, pending: Any, is_retry: bool) -> Routing:
        """Serve looks for a replica for it. Raises MissingTokenIdsError where the options ask for
        that; any other failure leaves the request without token ids."""
        routing = Routing.of(pending) if is_retry else None
        if routing is None:
            routing = await self._read(pending)
            if routing.prompt.local_hashes is NO_HASHES:
                self._missing()
        elif routing.attempt is not None:
            self._counters.retries += 1
            self._state.attempts.void(routing.attempt)
            routing.attempt = None
        routing.begin(pending)
        return routing

    async def choose(self, member: Any, candidates: Sequence[Any], pending: Any) -> Ranked:
        """`choose_replicas`: never raises. Books where Serve looks for a replica; otherwise (a
        selection without a reservation, or a search that has ended) only ranks."""
        began = time.perf_counter()
        try:
            routing = Routing.of(pending) or await self._read(pending)
            routing.withdraw()
            hashed_for = routing.prompt.block_size
            if hashed_for is not None and hashed_for != self._state.started_router().block_size:
                routing.prompt = (await self._read(pending)).prompt
            return self._rank(member, candidates, routing)
        except Exception as error:
            self._fell_back(type(error).__name__, error)
            return [shuffled(candidates)]
        finally:
            self._counters.choose_seconds.observe(time.perf_counter() - began)

    def take(self, routing: Routing, pending: Any, replica: Any) -> None:
        """Serve took this replica, the chosen one or another."""
        worker = replica.replica_id.unique_id
        booking = routing.end(pending)
        if booking is not None and (booking.worker != worker or booking.released):
            booking.withdraw()
            booking = self._book_at(routing, worker)
        request_id = routing.metadata.internal_request_id
        routing.attempt = self._state.attempts.add(request_id, worker, booking)
        task = asyncio.current_task()
        self._just_taken[task] = routing.attempt
        asyncio.get_running_loop().call_soon(self._just_taken.pop, task, None)
        if booking is not None and routing.call is not None:
            routing.call.bind(booking)
        self._set_keywords(pending.kwargs, booking)

    def give_up(self, routing: Routing, pending: Any) -> None:
        """The search ended without a replica: the caller is gone, or Serve failed."""
        booking = routing.end(pending)
        if booking is not None:
            booking.withdraw()

    def sent(self, worker: str) -> None:
        """Something was sent to this replica."""
        attempt = self._claim(worker)
        if attempt is not None:
            attempt.sent = True

    def completed(self, worker: str, request_id: str) -> None:
        """A call of this request completed there, or could not even be sent."""
        attempt = self._claim(worker)
        if attempt is not None and attempt.request_id == request_id:
            self._state.attempts.not_sent(attempt)
        elif self._state.attempts.completed(request_id, worker):
            self._counters.completed += 1

    def _claim(self, worker: str) -> Attempt | None:
        """The attempt for which the running task has just taken this replica; once."""
        if not self._just_taken:
            return None
        task = asyncio.current_task()
        attempt = self._just_taken.get(task)
        if attempt is None or attempt.worker != worker:
            return None
        return self._just_taken.pop(task)

    # Token ids.

    async def _read(self, pending: Any) -> Routing:
        source = self._state.source
        prompt = source.read(pending)
        if prompt is None and source.computes:
            prompt = await source.compute(pending)
        if prompt is not None:
            hashed = self._hash(prompt)
            if hashed is not None:
                return Routing(pending.metadata, hashed, prompt.call)
        session = as_name(getattr(pending.metadata, "session_id", None))
        lora = as_name(pending.metadata.multiplexed_model_id)
        return Routing(pending.metadata, HashedPrompt.unknown(session, lora))

    def _hash(self, prompt: Prompt) -> HashedPrompt | None:
        ids = prompt.token_ids
        try:
            block_size = self._state.started_router().block_size
            hashes = hash_blocks(ids, block_size, lora=prompt.lora)
        except (InvalidArgument, TypeError):
            self._counters.malformed_token_ids += 1
            return None
        except Exception as error:
            self._fell_back(type(error).__name__, error)
            return None
        return HashedPrompt(
            hashes,
            len(ids),
            prompt.expected_output_tokens,
            prompt.session_id,
            prompt.lora,
            block_size,
        )

    def _missing(self) -> None:
        self._counters.missing_token_ids += 1
        if self._options.on_missing_tokens == "error":
            self._counters.refused("MissingTokenIdsError")
            raise MissingTokenIdsError

    # Choice and booking.

    def _rank(self, member: Any, candidates: Sequence[Any], routing: Routing) -> Ranked:
        """In each tier the best target first, then the others; the very first one is booked."""
        router = self._state.started_router()
        number = self._state.number_of(member)
        workers: dict[str, int] = {}
        for tier in tiers(member, candidates, routing.metadata.multiplexed_model_id):
            allowed = self._state.membership.allowed(number, tier)
            if allowed.workers is None:
                continue
            if routing.underway and routing.booking is None:
                routing.booking = self._book(router, routing.prompt, allowed)
                chosen = routing.booking.choice
            else:
                chosen = _select(router, routing.prompt, allowed)
            best_ranks(workers, (chosen.worker, chosen.dp_rank), chosen.alternatives)
        routing.ranks = workers
        return in_order(candidates, workers)

    def _book(self, router: KvRouter, prompt: HashedPrompt, allowed: Allowed) -> Booking:
        assert allowed.workers is not None
        booking = self._state.bookings.book(router, prompt, allowed.workers, allowed.targets - 1)
        if prompt.local_hashes is NO_HASHES:
            self._counters.balanced += 1
        else:
            self._counters.decided(prompt.num_tokens, booking.choice.cached_tokens)
        return booking

    def _book_at(self, routing: Routing, worker: str) -> Booking | None:
        """At the replica that Serve took in place of the chosen one."""
        self._counters.moved += 1
        rank = routing.ranks.get(worker)
        target = worker if rank is None else (worker, rank)
        try:
            router = self._state.started_router()
            return self._state.bookings.book(router, routing.prompt, [target])
        except Exception as error:
            self._fell_back("move", error)
            return None

    def _set_keywords(self, kwargs: dict[str, Any], booking: Booking | None) -> None:
        if not self._options.forward_token_ids:
            kwargs.pop(self._options.token_ids_keyword, None)
        rank_keyword = self._options.dp_rank_keyword
        if rank_keyword is None:
            return
        if booking is None:
            kwargs.pop(rank_keyword, None)
        else:
            kwargs[rank_keyword] = booking.dp_rank

    def _fell_back(self, reason: str, error: Exception) -> None:
        if self._counters.fell_back(reason):
            _LOGGER.warning(
                "kvroute: a request to %s of %s goes by Serve's own order (%s; said once): %r",
                self._state.deployment,
                self._state.app,
                reason,
                error,
            )


def _select(router: KvRouter, prompt: HashedPrompt, allowed: Allowed) -> Selection:
    return router.select_worker_by_hashes(
        prompt.local_hashes,
        prompt.num_tokens,
        allowed.workers,
        expected_output_tokens=prompt.expected_output_tokens,
        session_id=prompt.session_id,
        lora=prompt.lora,
        alternatives=allowed.targets - 1,
    )

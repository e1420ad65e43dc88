"""What the routers of one deployment in one process share.

Ray gives each handle a router, from a class that it unpickles anew each time; all that is to be
there once is found here, by the deployment's name. One KvRouter, one table of bookings.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from kvroute.ray_serve.attempts import Attempts
from kvroute.ray_serve.bookings import NO_HASHES, Booking, Bookings, HashedPrompt
from kvroute.ray_serve.counters import Counters
from kvroute.ray_serve.errors import MissingTokenIdsError
from kvroute.ray_serve.membership import Membership
from kvroute.ray_serve.options import RouterOptions
from kvroute.ray_serve.ranking import Ranked, best_ranks, in_order, shuffled, tiers
from kvroute.ray_serve.routing import Routing
from kvroute.ray_serve.token_ids import Prompt, TokenSource

if TYPE_CHECKING:
    from kvroute import KvRouter

_LOGGER = logging.getLogger("ray.serve")

DEFAULT_BLOCK_SIZE = 16

_states: dict[tuple[str, str, str], DeploymentState] = {}
_states_lock = threading.Lock()


def attach(app: str, deployment: str, options: RouterOptions, member: Any) -> DeploymentState:
    """The state that this handle's router shares with others of its deployment and options. It is
    closed when the last of them is gone."""
    key = (app, deployment, options.key())
    with _states_lock:
        state = _states.get(key)
        if state is None:
            state = _states[key] = DeploymentState(app, deployment, options)
        state.join(member, lambda number: _leave_soon(key, number))
    return state


def options_of(app: str, deployment: str) -> RouterOptions | None:
    """Of this deployment's newest state; None where no router of it is in this process."""
    with _states_lock:
        states = [state for key, state in _states.items() if key[:2] == (app, deployment)]
    return states[-1].options if states else None


def _leave_soon(key: tuple[str, str, str], number: int) -> None:
    """For the garbage collector, which may run while any lock is held."""
    threading.Thread(target=_leave, args=(key, number), name="kvroute-leave", daemon=True).start()


def _leave(key: tuple[str, str, str], number: int) -> None:
    with _states_lock:
        state = _states[key]
        if state.leave(number):
            return
        del _states[key]
    state.close()


class DeploymentState:
    """Thread-safe, but for one PendingRequest, which is its event loop's."""

    def __init__(self, app: str, deployment: str, options: RouterOptions) -> None:
        self.app = app
        self.deployment = deployment
        self.options = options
        self.counters = Counters()
        self.source = TokenSource(options, self.counters)
        self.bookings = Bookings()
        self.attempts = Attempts(options.reservation_ttl)
        self.membership = Membership(self.bookings, self.counters)
        self.router: KvRouter | None = None
        self._assumed_block_size = False
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._members: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._present: dict[int, weakref.ref[Any]] = {}
        if options.block_size is not None:
            self._start(options.block_size)

    # Handles, and what they say of replicas.

    def join(self, member: Any, on_end: Callable[[int], None]) -> None:
        """`on_end` is called with the member's number once the member is gone."""
        number = next(self._numbers)
        self._members[member] = number
        self._present[number] = weakref.ref(member, lambda _: on_end(number))

    def leave(self, number: int) -> bool:
        """Whether others are still there."""
        del self._present[number]
        self.membership.leave(number)
        return bool(self._present)

    def close(self) -> None:
        self.source.close()
        with self._lock:
            if self.router is not None:
                self.router.close()

    def update_replicas(self, member: Any, replicas: Sequence[Any]) -> None:
        self.membership.update(self._members[member], replicas)
        self._settle_block_size()

    def replica_died(self, worker: str) -> None:
        self.membership.died(worker)

    def _settle_block_size(self) -> None:
        """The first replica that states a block size sets the router's; where requests came before
        any did, the router is made anew."""
        if self.options.block_size is not None:
            return
        if self.router is not None and not self._assumed_block_size:
            return
        stated = self.membership.block_size()
        if stated is None:
            return
        with self._lock:
            self._assumed_block_size = False
            if self.router is None or self.router.block_size != stated:
                self._start(stated)

    def _started(self) -> KvRouter:
        router = self.router
        if router is not None:
            return router
        with self._lock:
            if self.router is None:
                self._assumed_block_size = True
                self._start(DEFAULT_BLOCK_SIZE)
            assert self.router is not None
            return self.router

    def _start(self, block_size: int) -> None:
        from kvroute import KvRouter

        options = self.options
        before = self.router
        self.router = KvRouter(
            block_size,
            options.policy,
            options.memory_limit,
            options.seed,
            predicted_ttl=options.predicted_ttl,
            reservation_ttl=options.reservation_ttl,
        )
        self.membership.connect(self.router)
        if before is not None:
            before.close()

    # A request, from its first attempt to its end.

    async def begin(self, pending: Any, is_retry: bool) -> Routing:
        """Serve looks for a replica for it. Raises MissingTokenIdsError where that is asked for."""
        routing = Routing.of(pending) if is_retry else None
        if routing is None:
            prompt = await self._find_prompt(pending)
            if prompt is None and self.options.on_missing_tokens == "error":
                self.counters.refused("MissingTokenIdsError")
                raise MissingTokenIdsError
            routing = self._routing(pending, prompt)
        elif routing.attempt is not None:
            self.counters.retries += 1
            self.attempts.void(routing.attempt)
            routing.attempt = None
        routing.begin(pending)
        return routing

    def give_up(self, routing: Routing, pending: Any) -> None:
        """The search ended without a replica: the caller is gone, or Serve failed."""
        booking = routing.end(pending)
        if booking is not None:
            booking.release()

    def take(self, routing: Routing, pending: Any, replica: Any) -> None:
        """Serve took this replica. Never raises."""
        worker = replica.replica_id.unique_id
        booking = routing.end(pending)
        if booking is not None and (booking.worker != worker or booking.released):
            booking.release()
            booking = self._move(routing, worker)
        routing.attempt = self.attempts.add(routing.metadata.internal_request_id, worker, booking)
        if booking is not None and routing.call is not None:
            routing.call.bind(booking)
        self._set_keywords(pending.kwargs, booking)

    def sent(self, routing: Routing) -> None:
        if routing.attempt is not None:
            routing.attempt.sent = True

    def completed(self, worker: str, request_id: str) -> None:
        if self.attempts.completed(request_id, worker):
            self.counters.completed += 1

    def _set_keywords(self, kwargs: dict[str, Any], booking: Booking | None) -> None:
        if not self.options.forward_token_ids:
            kwargs.pop(self.options.token_ids_keyword, None)
        rank_keyword = self.options.dp_rank_keyword
        if rank_keyword is None:
            return
        if booking is None:
            kwargs.pop(rank_keyword, None)
        else:
            kwargs[rank_keyword] = booking.dp_rank

    def _move(self, routing: Routing, worker: str) -> Booking | None:
        """Books at the replica that Serve took in place of the chosen one."""
        self.counters.moved += 1
        rank = routing.ranks.get(worker)
        target = worker if rank is None else (worker, rank)
        try:
            return self.bookings.book(self._started(), routing.prompt, [target])
        except Exception as error:
            self._fell_back("move", error)
            return None

    # What it is chosen by.

    async def _find_prompt(self, pending: Any) -> Prompt | None:
        prompt = self.source.read(pending)
        if prompt is None and self.source.computes:
            prompt = await self.source.compute(pending)
        return prompt

    def _routing(self, pending: Any, prompt: Prompt | None) -> Routing:
        metadata = pending.metadata
        hashed = None if prompt is None else self._hash(prompt)
        if prompt is None or hashed is None:
            self.counters.missing_token_ids += 1
            session = getattr(metadata, "session_id", None) or None
            lora = metadata.multiplexed_model_id or None
            return Routing(metadata, HashedPrompt.unknown(session, lora))
        return Routing(metadata, hashed, prompt.call)

    def _hash(self, prompt: Prompt) -> HashedPrompt | None:
        from kvroute import InvalidArgument, hash_blocks

        try:
            hashes = hash_blocks(prompt.token_ids, self._started().block_size, lora=prompt.lora)
        except (InvalidArgument, TypeError):
            self.counters.malformed_token_ids += 1
            return None
        return HashedPrompt(
            hashes,
            len(prompt.token_ids),
            prompt.expected_output_tokens,
            prompt.session_id,
            prompt.lora,
        )

    # Choosing.

    async def choose(self, member: Any, candidates: Sequence[Any], pending: Any) -> Ranked:
        """`choose_replicas`: never raises. Books where Serve looks for a replica; otherwise (a
        selection without a reservation, or a search that has ended) only ranks."""
        began = time.perf_counter()
        try:
            routing = Routing.of(pending)
            if routing is None:
                routing = self._routing(pending, await self._find_prompt(pending))
            routing.drop_booking()
            return self._rank(member, candidates, routing)
        except Exception as error:
            self._fell_back(type(error).__name__, error)
            return [shuffled(candidates)]
        finally:
            self.counters.choose_seconds.observe(time.perf_counter() - began)

    def _rank(self, member: Any, candidates: Sequence[Any], routing: Routing) -> Ranked:
        router = self._started()
        number = self._members[member]
        workers: dict[str, int] = {}
        for tier in tiers(member, candidates, routing.metadata.multiplexed_model_id):
            allowed = self.membership.allowed(number, tier)
            if allowed.workers is None:
                continue
            if routing.underway and routing.booking is None:
                chosen = self.bookings.book(
                    router, routing.prompt, allowed.workers, allowed.targets - 1
                )
                routing.booking = chosen
                self._count(chosen)
            else:
                chosen = self._select(router, routing.prompt, allowed)
            targets = [(chosen.worker, chosen.dp_rank), *chosen.alternatives]
            for worker, rank in best_ranks(targets).items():
                workers.setdefault(worker, rank)
        routing.ranks = workers
        return in_order(candidates, workers)

    def _select(self, router: KvRouter, prompt: HashedPrompt, allowed: Any) -> Any:
        return router.select_worker_by_hashes(
            prompt.local_hashes,
            prompt.num_tokens,
            allowed.workers,
            expected_output_tokens=prompt.expected_output_tokens,
            session_id=prompt.session_id,
            lora=prompt.lora,
            alternatives=allowed.targets - 1,
        )

    def _count(self, booking: Booking) -> None:
        if booking.prompt.local_hashes is NO_HASHES:
            self.counters.balanced += 1
        else:
            self.counters.decided(booking.prompt.num_tokens, booking.cached_tokens)

    def _fell_back(self, reason: str, error: Exception) -> None:
        if self.counters.fell_back(reason):
            _LOGGER.warning(
                "kvroute: %s of %s goes by Serve's own order (%s; said once): %r",
                self.deployment,
                self.app,
                reason,
                error,
            )

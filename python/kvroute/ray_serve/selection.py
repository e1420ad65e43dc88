"""Selection as a service: Ray's own interface for it, over kvroute's core."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, TypedDict

from kvroute import InvalidArgument, KvRouter, Reservation, Selection, VirtualClock
from kvroute.ray_serve.selection_requests import SelectionRequests, WorkerSelection
from kvroute.ray_serve.selection_workers import (
    DEFAULT_BLOCK_SIZE,
    SelectionWorkers,
    WorkerFacts,
    WorkerId,
)

if TYPE_CHECKING:
    from kvroute._core import Policy, TokenIds

logger = logging.getLogger(__name__)

LIFECYCLE_HOOKS = frozenset(
    {"on_first_token", "on_prefill_complete", "on_decode_progress", "on_request_completed"}
)


class RankState(TypedDict):
    """One data-parallel rank of a worker."""

    worker_id: WorkerId
    dp_rank: int
    active_requests: int
    active_prefill_tokens: int
    active_blocks: int
    held_blocks: int
    connected: bool
    """Whether its stream of KV events is."""


class SelectionService:
    """Chooses workers for requests and books them, in one process, for one model.

    The methods have the names and arguments of those that Ray's KV-aware router calls on its
    tracker, and are coroutines as there; none of them waits for anything. They may be called from
    event loops of several threads. Errors are KvRouter's: InvalidArgument (a ValueError, also where
    there are no token ids), UnknownWorker (a KeyError), NoEligibleWorker (a RuntimeError).

    Running requests are known by `request_id`. What is heard of one before its booking comes here
    is kept, for at most 8,192 requests and `early_ttl_s`, and counts when it comes; a booking made
    elsewhere that comes after its end is left out. Of 65,536 bookings the oldest makes room for a
    new one; one of which nothing was heard for `request_ttl_s` is dropped.
    """

    def __init__(
        self,
        block_size: int | None = None,
        policy: Policy = "kv_cost",
        *,
        request_ttl_s: float = 3600.0,
        early_ttl_s: float = 60.0,
        clock: VirtualClock | None = None,
        **router_options: Any,
    ) -> None:
        """block_size: of workers that state none; None: that of the first worker that states one,
        else 16. `policy`, `clock` and `router_options` are KvRouter's."""
        self._router = KvRouter(
            block_size=block_size or DEFAULT_BLOCK_SIZE,
            policy=policy,
            clock=clock,
            reservation_ttl=request_ttl_s,
            **router_options,
        )
        self._workers = SelectionWorkers(self._router, block_size)
        self._requests = SelectionRequests(
            clock.now if clock is not None else time.monotonic, request_ttl_s, early_ttl_s
        )
        self._lock = threading.Lock()

    # Workers.

    async def upsert_worker(self, worker: WorkerId | Mapping[str, Any], **facts: Any) -> None:
        """Adds a worker: its id, and WorkerFacts by keyword; or one mapping with `worker_id` and
        these or Dynamo's names for them. One that is there with other facts begins anew: its
        blocks and bookings are dropped."""
        if isinstance(worker, Mapping):
            if "worker_id" not in worker:
                raise InvalidArgument("worker: expected a field worker_id")
            facts = {**worker, **facts}
            worker_id: WorkerId = facts.pop("worker_id")
        else:
            worker_id = worker
        stated = WorkerFacts.of(facts)
        with self._lock:
            before = self._workers.get(worker_id)
            if before == stated:
                return
            if before is not None:
                self._remove(worker_id)
            self._workers.add(worker_id, stated)

    async def delete_worker(self, worker_id: WorkerId) -> None:
        """Forgets a worker, its blocks and its bookings. UnknownWorker if it is not there."""
        with self._lock:
            self._remove(worker_id)

    async def list_workers(self) -> list[RankState]:
        """All ranks of all workers."""
        with self._lock:
            return [
                RankState(
                    worker_id=worker_id,
                    dp_rank=dp_rank,
                    active_requests=target.active_requests,
                    active_prefill_tokens=target.active_prefill_tokens,
                    active_blocks=target.active_blocks,
                    held_blocks=target.held_blocks,
                    connected=bool(target.events["connected"]),
                )
                for target in self._router.stats().targets
                for worker_id, dp_rank in [self._workers.named(target.worker, target.dp_rank)]
            ]

    async def update_load(
        self,
        worker_id: WorkerId,
        dp_rank: int | None = None,
        *,
        waiting: int | None = None,
        running: int | None = None,
        kv_usage: float | None = None,
    ) -> None:
        """What the engine of a rank reports of itself; None as rank is the worker's first."""
        with self._lock:
            name, rank = self._workers.target(worker_id, dp_rank)
            self._router.update_load(
                name, rank, waiting=waiting, running=running, kv_usage=kv_usage
            )

    # Choices.

    async def select_worker(
        self,
        request_id: str,  # noqa: ARG002  # of Ray's interface: nothing is kept of the request
        token_ids: TokenIds,
        allowed_worker_ids: Collection[WorkerId] | None = None,
        expected_output_tokens: int | None = None,
        lora_name: str | None = None,
    ) -> WorkerSelection:
        """Chooses among the allowed workers that are there, None being all, and books nothing.
        NoEligibleWorker if none of them is there."""
        _require(token_ids)
        with self._lock:
            choice = self._router.select_worker(
                token_ids,
                self._workers.allowed(allowed_worker_ids),
                expected_output_tokens=expected_output_tokens,
                lora=lora_name,
            )
            return self._selection(choice)

    async def select_and_reserve(
        self,
        request_id: str,
        token_ids: TokenIds,
        allowed_worker_ids: Collection[WorkerId] | None = None,
        expected_output_tokens: int | None = None,
        lora_name: str | None = None,
    ) -> WorkerSelection:
        """Chooses as select_worker, and books in the same step. A request that is booked keeps its
        worker while that is allowed; else that booking is released, and it is chosen for anew."""
        _require(token_ids)
        with self._lock:
            booked = self._requests.selection(request_id)
            if booked is not None:
                if allowed_worker_ids is None or booked["worker_id"] in allowed_worker_ids:
                    return booked
                self._requests.release(request_id)
            reservation = self._router.reserve(
                token_ids,
                request_id,
                expected_output_tokens,
                self._workers.allowed(allowed_worker_ids),
                lora=lora_name,
            )
            return self._book(request_id, reservation)

    async def on_request_added(
        self,
        request_id: str,
        worker_id: WorkerId,
        token_ids: TokenIds,
        dp_rank: int | None = None,
        expected_output_tokens: int | None = None,
        lora_name: str | None = None,
    ) -> bool:
        """Books a request that was sent to a worker by somebody else's choice; None as rank is the
        worker's first. One that is booked on another worker is moved. Whether it is booked now: not
        if its end came before. UnknownWorker if the worker is not there."""
        _require(token_ids)
        with self._lock:
            target = self._workers.target(worker_id, dp_rank)
            if self._requests.has_ended(request_id, worker_id):
                return False
            booked = self._requests.selection(request_id)
            if booked is not None and booked["worker_id"] == worker_id:
                return True
            self._requests.release(request_id)
            reservation = self._router.reserve(
                token_ids, request_id, expected_output_tokens, pinned=target, lora=lora_name
            )
            self._book(request_id, reservation)
            return True

    # What becomes of requests: idempotent, in any order.

    async def on_first_token(self, request_id: str) -> None:
        """The prompt is computed: it counts as load no more."""
        with self._lock:
            self._requests.first_token(request_id)

    on_prefill_complete = on_first_token

    async def on_decode_progress(self, request_id: str, cumulative_output_tokens: int) -> None:
        """So many tokens of the answer are there."""
        with self._lock:
            self._requests.progress(request_id, cumulative_output_tokens)

    async def on_request_completed(
        self, request_id: str, output_token_ids: TokenIds | None = None
    ) -> None:
        """The request is over, whatever its outcome. With `output_token_ids` the worker is assumed
        to hold prompt and answer (see Reservation.release)."""
        with self._lock:
            self._requests.complete(request_id, output_token_ids)

    async def on_lifecycle_events(self, events: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Many of the above in their order, each as its method's name and arguments. One that
        cannot be taken is logged and left out."""
        for hook, arguments in events:
            try:
                if hook not in LIFECYCLE_HOOKS:
                    raise InvalidArgument(f"expected one of {sorted(LIFECYCLE_HOOKS)}")
                await getattr(self, hook)(*arguments)
            except (TypeError, ValueError) as error:
                logger.warning("Lifecycle event %r is left out: %s", hook, error)

    async def close(self) -> None:
        """Drops everything and closes the event streams. Further choices raise InvalidArgument."""
        with self._lock:
            self._router.close()

    def _remove(self, worker_id: WorkerId) -> None:
        self._workers.remove(worker_id)
        self._requests.worker_left(worker_id)

    def _book(self, request_id: str, reservation: Reservation) -> WorkerSelection:
        selection = self._selection(reservation.choice)
        self._requests.book(request_id, selection, reservation)
        return selection

    def _selection(self, choice: Selection) -> WorkerSelection:
        worker_id, dp_rank = self._workers.named(choice.worker, choice.dp_rank)
        return WorkerSelection(
            worker_id=worker_id,
            dp_rank=dp_rank,
            overlap_tokens=choice.cached_tokens,
            effective_prefill_tokens=choice.prefill_tokens,
        )


def _require(token_ids: TokenIds) -> None:
    """Before anything else: a request without a prompt is its sender's mistake, whoever is there
    to serve it."""
    if not isinstance(token_ids, Sized) or len(token_ids) == 0:
        raise InvalidArgument("token_ids: expected at least one token id, got none")

"""The workers of a selection service: what they state of themselves, and their core names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from kvroute import InvalidArgument, KvRouter, NoEligibleWorker, UnknownWorker

WorkerId: TypeAlias = int | str
"""A str, or an int from 0 to 2**64 - 1: Ray hashes a replica's id to one."""

Endpoints: TypeAlias = str | Sequence[str] | Mapping[int, str] | None
"""Where a worker's first rank is reached (the next ones have the next ports), or all of its ranks
in their order, or by rank."""

DEFAULT_BLOCK_SIZE = 16

_SIGNED = 1 << 63  # the core's ints have a sign

# Fields of Dynamo's worker records that mean nothing here: a service has one model and one tenant,
# sends no requests itself, and does not bound a batch.
_IGNORED = {"endpoint", "max_num_batched_tokens", "model_name", "routing_group", "tenant_id"}
_DYNAMO_NAMES = {
    "data_parallel_size": "dp_ranks",
    "data_parallel_start_rank": "dp_start_rank",
    "kv_events_endpoint": "kv_events",
    "kv_events_endpoints": "kv_events",
    "replay_endpoint": "kv_replay",
    "total_kv_blocks": "total_blocks",
}


@dataclass(frozen=True)
class WorkerFacts:
    """What a worker states of itself, as KvRouter.add_worker takes it."""

    kv_events: Endpoints = None
    kv_replay: Endpoints = None
    load_events: Endpoints = None
    block_size: int | None = None
    dp_start_rank: int = 0
    """Its ranks are dp_start_rank, dp_start_rank + 1, and so on."""
    dp_ranks: int = 1
    total_blocks: int | None = None
    labels: Mapping[str, str] | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> WorkerFacts:
        """From a mapping with these names or Dynamo's. InvalidArgument names one that is
        neither."""
        facts: dict[str, Any] = {}
        for field, value in record.items():
            name = _DYNAMO_NAMES.get(field, field)
            if name in cls.__dataclass_fields__:
                facts[name] = value
            elif field not in _IGNORED:
                known = ", ".join(sorted({*cls.__dataclass_fields__, *_DYNAMO_NAMES, *_IGNORED}))
                raise InvalidArgument(f"worker: expected a field among {known}, got {field!r}")
        return cls(**facts)

    def endpoints(self, field: str) -> str | Sequence[str] | None:
        """Those of one field, as add_worker takes them."""
        stated: Endpoints = getattr(self, field)
        if not isinstance(stated, Mapping):
            return stated
        ranks = range(self.dp_start_rank, self.dp_start_rank + self.dp_ranks)
        if stated.keys() != set(ranks):
            raise InvalidArgument(
                f"{field}: expected an endpoint for each of the ranks {list(ranks)}, "
                f"got those of {sorted(stated)}"
            )
        return [stated[rank] for rank in ranks]


class SelectionWorkers:
    """The workers of one router by their ids. For one thread at a time.

    A worker that states no block size has that of the first one that did, else
    DEFAULT_BLOCK_SIZE."""

    def __init__(self, router: KvRouter, block_size: int | None) -> None:
        self._router = router
        self._block_size = block_size
        self._facts: dict[WorkerId, WorkerFacts] = {}

    def get(self, worker_id: WorkerId) -> WorkerFacts | None:
        return self._facts.get(worker_id)

    def add(self, worker_id: WorkerId, facts: WorkerFacts) -> None:
        """One that is not there. InvalidArgument as add_worker."""
        self._router.add_worker(
            core_name(worker_id),
            dp_ranks=facts.dp_ranks,
            block_size=facts.block_size or self._block_size or DEFAULT_BLOCK_SIZE,
            kv_events=facts.endpoints("kv_events"),
            kv_replay=facts.endpoints("kv_replay"),
            load_events=facts.endpoints("load_events"),
            total_blocks=facts.total_blocks,
            labels=facts.labels,
        )
        self._block_size = self._block_size or facts.block_size
        self._facts[worker_id] = facts

    def remove(self, worker_id: WorkerId) -> None:
        """UnknownWorker if it is not there."""
        self._facts_of(worker_id)
        del self._facts[worker_id]
        self._router.remove_worker(core_name(worker_id))

    def target(self, worker_id: WorkerId, dp_rank: int | None) -> tuple[int | str, int]:
        """The core's target of one of its ranks; None: of its first. UnknownWorker if it is not
        there."""
        first = self._facts_of(worker_id).dp_start_rank
        return core_name(worker_id), 0 if dp_rank is None else dp_rank - first

    def allowed(self, worker_ids: Iterable[WorkerId] | None) -> list[int | str] | None:
        """The core's names of those among them that are there. None: no limit. NoEligibleWorker if
        none of them is there."""
        if worker_ids is None:
            return None
        names = [core_name(worker_id) for worker_id in worker_ids if worker_id in self._facts]
        if not names:
            raise NoEligibleWorker("none of the allowed workers is registered (any more, or yet)")
        return names

    def named(self, name: int | str, dp_rank: int) -> tuple[WorkerId, int]:
        """The id and rank of one of the core's targets."""
        worker_id = name if isinstance(name, str) or name >= 0 else name + 2 * _SIGNED
        return worker_id, dp_rank + self._facts[worker_id].dp_start_rank

    def _facts_of(self, worker_id: WorkerId) -> WorkerFacts:
        if worker_id not in self._facts:
            raise UnknownWorker(f"worker_id: expected that of a worker, got {worker_id!r}")
        return self._facts[worker_id]


def core_name(worker_id: WorkerId) -> int | str:
    """A worker's name in the core. InvalidArgument for what is no worker's id."""
    if isinstance(worker_id, str):
        return worker_id
    if not isinstance(worker_id, int) or isinstance(worker_id, bool):
        raise InvalidArgument(f"worker_id: expected a str or an int, got {worker_id!r}")
    if not 0 <= worker_id < 2 * _SIGNED:
        raise InvalidArgument(f"worker_id: expected an int from 0 to 2**64 - 1, got {worker_id}")
    return worker_id if worker_id < _SIGNED else worker_id - 2 * _SIGNED

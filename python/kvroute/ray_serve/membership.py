"""The replicas of a deployment as the core's workers, named by their unique ids.

Several handles in one process each list the deployment's replicas, at moments of their own: a
replica is a worker while any of them lists it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kvroute.ray_serve.replica_facts import MalformedFactsError, ReplicaFacts, ReplicaLoad

if TYPE_CHECKING:
    from kvroute import AllowedSet, KvRouter
    from kvroute.ray_serve.bookings import Bookings
    from kvroute.ray_serve.counters import Counters

_LOGGER = logging.getLogger("ray.serve")

DEAD_SECONDS = 60.0
"""For so long a replica whose actor died is not registered again, whoever still lists it."""

_MAX_ALLOWED_SETS = 256


@dataclass(slots=True)
class _Replica:
    """What is known of one that some handle lists."""

    facts: ReplicaFacts = field(default_factory=ReplicaFacts)
    members: set[int] = field(default_factory=set)
    stats: Any = None
    """The very object that was read last: what Ray sends anew is a new one."""
    load: ReplicaLoad | None = None
    registered: bool = False
    complained: bool = False


@dataclass(slots=True, frozen=True)
class Allowed:
    """Candidates as the core takes them. `targets`: ranks of all workers in `workers`."""

    workers: AllowedSet | None
    targets: int


class _OtherBlockSizeError(Exception):
    def __init__(self, stated: int | None, router: KvRouter) -> None:
        super().__init__(
            f"block_size: expected {router.block_size}, as the deployment's prompts are hashed, "
            f"got {stated}: it counts as holding nothing"
        )


class Membership:
    """Thread-safe: handles may live on different event loops."""

    def __init__(
        self,
        bookings: Bookings,
        counters: Counters,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bookings = bookings
        self._counters = counters
        self._clock = clock
        self._lock = threading.RLock()
        self._router: KvRouter | None = None
        self._replicas: dict[str, _Replica] = {}
        self._died: dict[str, float] = {}
        self._allowed: dict[tuple[str, ...], Allowed] = {}

    def workers(self) -> list[str]:
        with self._lock:
            return [name for name, replica in self._replicas.items() if replica.registered]

    def block_size(self) -> int | None:
        """The first that a replica states."""
        with self._lock:
            stated = (replica.facts.block_size for replica in self._replicas.values())
            return next((size for size in stated if size is not None), None)

    def connect(self, router: KvRouter) -> None:
        """All replicas known so far become workers of this router, with their bookings."""
        with self._lock:
            self._router = router
            self._allowed.clear()
            for name, replica in self._replicas.items():
                replica.registered = False
                self._register(name, replica)

    def update(self, member: int, replicas: Sequence[Any]) -> None:
        """The member lists exactly these RunningReplicas now. Called several times a second: a
        replica that says nothing new costs a look-up."""
        with self._lock:
            listed = set()
            for replica in replicas:
                name = replica.replica_id.unique_id
                listed.add(name)
                self._list(member, name, replica)
            gone = [
                name
                for name, known in self._replicas.items()
                if member in known.members and name not in listed
            ]
            for name in gone:
                self._unlist(member, name)

    def leave(self, member: int) -> None:
        """The handle is gone, and its list with it."""
        self.update(member, ())

    def died(self, name: str) -> None:
        """The replica's actor is dead; its load with it. Idempotent."""
        with self._lock:
            known = self._replicas.pop(name, None)
            if known is None:
                return
            now = self._clock()
            self._died = {
                dead: at for dead, at in self._died.items() if now - at < DEAD_SECONDS
            } | {name: now}
            self._counters.replicas_died += 1
            self._take_out(name, known)

    def allowed(self, member: int, candidates: Iterable[Any]) -> Allowed:
        """The registered ones among these RunningReplicas; unknown ones are registered first."""
        names = tuple([replica.replica_id.unique_id for replica in candidates])
        known = self._allowed.get(names)
        return known if known is not None else self._look_up(member, names, candidates)

    def _look_up(self, member: int, names: tuple[str, ...], candidates: Iterable[Any]) -> Allowed:
        with self._lock:
            for name, replica in zip(names, candidates, strict=True):
                if name not in self._replicas:
                    self._list(member, name, replica)
            router = self._router
            there = [name for name in names if name in self._replicas]
            there = [name for name in there if self._replicas[name].registered]
            if router is None or not there:
                return Allowed(None, 0)
            targets = sum(self._replicas[name].facts.dp_ranks for name in there)
            found = Allowed(router.allowed_set(there), targets)
            if len(self._allowed) >= _MAX_ALLOWED_SETS:
                self._allowed.clear()
            self._allowed[names] = found
            return found

    def _list(self, member: int, name: str, replica: Any) -> None:
        known = self._replicas.get(name)
        if known is None:
            if self._clock() - self._died.get(name, -DEAD_SECONDS) < DEAD_SECONDS:
                return
            known = self._replicas[name] = _Replica()
        known.members.add(member)
        if known.registered and known.stats is replica.routing_stats:
            return
        known.stats = replica.routing_stats
        self._read(name, known, replica)

    def _read(self, name: str, known: _Replica, replica: Any) -> None:
        try:
            facts = ReplicaFacts.of(replica)
            load = ReplicaLoad.of(replica)
        except (MalformedFactsError, TypeError) as error:
            self._complain(name, known, error)
            facts, load = known.facts, None
        if (
            facts == ReplicaFacts()
        ):  # a source without them: they do not end before the replica does
            facts = known.facts
        if facts != known.facts or not known.registered:
            known.facts = facts
            self._register(name, known)
        if load is not None and (known.load is None or load.stamp > known.load.stamp):
            known.load = load
            self._report(name, known)

    def _report(self, name: str, known: _Replica) -> None:
        from kvroute import KvRouteError

        if self._router is None or known.load is None or not known.registered:
            return
        try:
            known.load.report_to(self._router, name)
        except (KvRouteError, TypeError) as error:
            self._complain(name, known, error)

    def _register(self, name: str, known: _Replica) -> None:
        """Adds it, or takes it out and adds it with other facts; what runs there is booked again.
        Where the core refuses what it states, its cache is predicted."""
        from kvroute import KvRouteError

        router = self._router
        if router is None:
            return
        self._allowed.clear()
        if known.registered:
            router.remove_worker(name)
        known.registered = False
        for facts in (known.facts, known.facts.predicted(), ReplicaFacts()):
            try:
                facts.add_to(router, name)
            except (KvRouteError, TypeError, OverflowError) as error:
                self._complain(name, known, error)
            else:
                known.registered = True
                break
        if not known.registered:
            return
        if known.facts.block_size not in (None, router.block_size):
            self._complain(name, known, _OtherBlockSizeError(known.facts.block_size, router))
        self._report(name, known)
        for booking in self._bookings.of(name):
            try:
                booking.book_again(router)
            except KvRouteError as error:
                self._complain(name, known, error)
        if self._bookings.exchange is not None:
            self._bookings.exchange.worker_registered(name)

    def _unlist(self, member: int, name: str) -> None:
        known = self._replicas[name]
        known.members.discard(member)
        if not known.members:
            del self._replicas[name]
            self._take_out(name, known)

    def _take_out(self, name: str, known: _Replica) -> None:
        self._allowed.clear()
        for booking in self._bookings.of(name):
            booking.release()
        if known.registered and self._router is not None:
            self._router.remove_worker(name)

    def _complain(self, name: str, known: _Replica, error: Exception) -> None:
        self._counters.malformed_facts += 1
        if not known.complained:
            known.complained = True
            _LOGGER.warning("kvroute: what replica %s states is ignored: %s", name, error)

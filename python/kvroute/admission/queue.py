"""Waiting for room, on one event loop: no thread and no polling task per request."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol, TypeVar

from kvroute.admission.errors import QueueFull, QueueTimeout
from kvroute.admission.fair_line import FairLine
from kvroute.admission.orders import ORDERS, Order, Waiting
from kvroute.admission.reservation import AdmittedReservation

_LONGEST_RETRY = 60.0
_GAP_MEMORY = 16.0


class Releasable(Protocol):
    def release(self) -> None: ...


T = TypeVar("T", bound=Releasable)


class Router(Protocol):
    """What is asked of ``kvroute.KvRouter``."""

    def reserve(self, token_ids: Any, *args: Any, **options: Any) -> Any: ...
    def overlaps(self, token_ids: Any, **options: Any) -> Any: ...


class AdmissionQueue:
    """Holds requests back while every worker that may serve them is over its threshold.

    A request is tried at once when nobody waits; otherwise it takes its place. Those that wait are
    tried again when `made_room` is called (by the reservations from here at their first token and
    end, and by whoever brings load reports), and every `poll` seconds, since a native event stream
    and time itself make room too. Each time the first in line goes until one is refused; behind
    it only those are tried that other workers may serve. While nobody waits there is no timer.

    Bounded by `limit` waiting requests. All calls from one event loop.
    """

    def __init__(
        self,
        router: Router | None = None,
        *,
        limit: int = 256,
        order: str | Order = "fcfs",
        timeout: float = 30.0,
        poll: float = 0.05,
        overload: type[BaseException] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`order`: "fcfs", "priority", "shortest_uncached", or an object with a key. `timeout`:
        seconds in the queue for those that name none. `overload`: the error that says that all are
        over their thresholds, by default ``kvroute.Overloaded``. ValueError for what is
        wrong, by its name.
        """
        if limit < 1:
            raise ValueError(f"limit: expected at least 1, got {limit}")
        if not 0 < timeout < float("inf"):
            raise ValueError(f"timeout: expected seconds above 0, got {timeout}")
        if not 0 < poll < float("inf"):
            raise ValueError(f"poll: expected seconds above 0, got {poll}")
        if isinstance(order, str):
            if order not in ORDERS:
                raise ValueError(f"order: expected one of {', '.join(ORDERS)}, got {order!r}")
            order = ORDERS[order]()
        if overload is None:
            from kvroute import Overloaded

            overload = Overloaded
        self._overload: type[BaseException] = overload
        self._router = router
        self._limit = limit
        self._timeout = timeout
        self._poll = poll
        self._clock = clock
        self._line = FairLine(order)
        self._tries: dict[Waiting, _Try] = {}
        self._numbers = itertools.count()
        self._pump_due: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._gap = _MeanGap()

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._line)

    async def reserve(
        self,
        token_ids: Any,
        *,
        priority: float = 0.0,
        tenant: str = "",
        timeout: float | None = None,
        allowed: Any = None,
        **options: Any,
    ) -> AdmittedReservation:
        """``router.reserve(token_ids, allowed=allowed, **options)`` as soon as there is room.

        Raises QueueFull, QueueTimeout, and whatever the router raises but for being overloaded. A
        cancelled call leaves nothing behind.
        """
        router = self._router
        if router is None:
            raise ValueError("router: this queue was made without one; use admit")

        def attempt() -> AdmittedReservation:
            return AdmittedReservation(
                router.reserve(token_ids, allowed=allowed, **options), self.made_room
            )

        def uncached() -> int:
            names = {
                name: options[name] for name in ("lora", "salt", "namespace") if name in options
            }
            return len(token_ids) - max(router.overlaps(token_ids, **names).values(), default=0)

        return await self.admit(
            attempt,
            uncached_tokens=uncached,
            priority=priority,
            tenant=tenant,
            timeout=timeout,
            eligibility=_eligibility(allowed, options),
        )

    async def admit(
        self,
        attempt: Callable[[], T],
        *,
        uncached_tokens: Callable[[], int] = lambda: 1,
        priority: float = 0.0,
        tenant: str = "",
        timeout: float | None = None,
        eligibility: Hashable = None,
    ) -> T:
        """What `attempt` gives as soon as it does not raise the overload error; as `reserve`.

        `uncached_tokens` is asked only when the request must wait. `eligibility`: equal for
        requests that the same workers may serve, None where all may.
        """
        if not math.isfinite(priority):
            raise ValueError(f"priority: expected a finite number, got {priority}")
        if not self._line:
            try:
                return attempt()
            except self._overload:
                pass
        waiting = len(self._line)
        if waiting >= self._limit:
            raise QueueFull(f"{waiting} requests wait already", self._retry_after())
        request = Waiting(
            self._clock(), next(self._numbers), priority, uncached_tokens(), tenant, eligibility
        )
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._line.add(request)
        self._tries[request] = _Try(attempt, future)
        if waiting:
            self.made_room()  # this one may be first, or have workers of its own
        self._set_timer()
        seconds = self._timeout if timeout is None else timeout
        try:
            await asyncio.wait((future,), timeout=seconds)
        except asyncio.CancelledError:
            self._abandon(request, future)
            raise
        if not future.done():
            self._abandon(request, future)
            raise QueueTimeout(
                f"no worker had room within {seconds:g} seconds", self._retry_after()
            )
        return future.result()

    def made_room(self) -> None:
        """Those that wait are tried again, soon and once however often this is called."""
        if self._line and self._pump_due is None:
            self._pump_due = asyncio.get_running_loop().call_soon(self._pump)

    def close(self) -> None:
        """Drops the timers. Requests that still wait run into their timeouts."""
        for handle in (self._pump_due, self._timer):
            if handle is not None:
                handle.cancel()
        self._pump_due = self._timer = None

    def _pump(self) -> None:
        self._pump_due = None
        refused: set[Hashable] = set()
        while (request := self._line.first(lambda r: r.eligibility not in refused)) is not None:
            tried = self._tries[request]
            try:
                result = tried.attempt()
            except self._overload:
                if request.eligibility is None:
                    break  # nobody has room
                refused.add(request.eligibility)
                continue
            except Exception as error:
                self._line.remove(request)
                tried.future.set_exception(error)
            else:
                self._line.serve(request)
                self._gap.note(self._clock())
                tried.future.set_result(result)
            del self._tries[request]
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None and not self._line:
            self._timer.cancel()
            self._timer = None
        elif self._timer is None and self._line:
            self._timer = asyncio.get_running_loop().call_later(self._poll, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._pump()

    def _abandon(self, request: Waiting, future: asyncio.Future[Any]) -> None:
        """Whoever waited is gone: out of the line, or what it got is given back."""
        if self._tries.pop(request, None) is not None:
            self._line.remove(request)
            self._set_timer()
        elif future.exception() is None:
            future.result().release()
        self.made_room()

    def _retry_after(self) -> float:
        """When those that wait now may be through, at the rate of the last admissions."""
        seconds = self._gap.mean(self._clock()) * (len(self._line) + 1)
        return min(max(seconds, 1.0), _LONGEST_RETRY)


def _eligibility(allowed: Any, options: Mapping[str, Any]) -> Hashable:
    """Equal for requests whose arguments leave them the same workers; None where all are left."""
    parts: list[tuple[str, Hashable]] = []
    if allowed is not None:
        # A prebuilt set stands for itself; it lives as long as the request that names it.
        listed = isinstance(allowed, (list, tuple))
        parts.append(("allowed", tuple(allowed) if listed else id(allowed)))
    for name in ("pinned", "dp_ranks", "labels", "model", "lora"):
        value = options.get(name)
        if value is not None:
            parts.append((name, repr(sorted(value.items()) if name == "labels" else value)))
    return tuple(parts) or None


class _Try:
    __slots__ = ("attempt", "future")

    def __init__(self, attempt: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self.attempt = attempt
        self.future = future


class _MeanGap:
    """Mean seconds between the last admissions from the queue; 0 before the second."""

    def __init__(self) -> None:
        self._mean = 0.0
        self._count = 0.0
        self._last: float | None = None

    def note(self, now: float) -> None:
        if self._last is not None:
            self._count = min(self._count + 1, _GAP_MEMORY)
            self._mean += (now - self._last - self._mean) / self._count
        self._last = now

    def mean(self, now: float) -> float:
        """A silence longer than the mean counts as one more gap."""
        if self._last is None or self._count == 0:
            return 0.0
        silence = max(0.0, now - self._last - self._mean)
        return self._mean + silence / (self._count + 1)

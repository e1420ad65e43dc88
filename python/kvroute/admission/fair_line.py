"""The line of those that wait: an order within each tenant, equal shares between tenants."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator

from kvroute.admission.orders import Order, Waiting

_Place = tuple[float, int, Waiting]
# Tenants without anybody waiting whose past is remembered.
_MAX_ABSENT = 1024


class FairLine:
    """Next is the tenant that was served the fewest tokens; `order` holds within a tenant.

    That is start-time fair queueing (Goyal, Vin, Cheng: SIGCOMM 1996) over uncached prompt tokens:
    tenants that keep somebody waiting get equal shares of prefill work, however many or long their
    requests are. A tenant that comes begins where the one served last stood: it has no claim for
    the time when it asked for nothing, and what it was served beyond that stays counted. When
    nobody waits all are even. With one tenant only the order counts.

    Not thread-safe. `first` is O(tenants) while the first of each is eligible; the others are
    O(log n), and a move of pointers.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._lines: dict[str, list[_Place]] = {}
        self._served: dict[str, float] = {}  # also of the absent, while above the floor
        self._floor = 0.0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Waiting]:
        for line in self._lines.values():
            yield from (request for _, _, request in line)

    def add(self, request: Waiting) -> None:
        """ValueError where the order's key is not a finite number."""
        place = self._place(request)
        if not math.isfinite(place[0]):
            raise ValueError(f"key: expected a finite number from the order, got {place[0]}")
        line = self._lines.get(request.tenant)
        if line is None:
            line = self._lines[request.tenant] = []
            self._served[request.tenant] = max(self._served.get(request.tenant, 0.0), self._floor)
        bisect.insort(line, place)
        self._count += 1

    def remove(self, request: Waiting) -> None:
        """Takes it out unserved: it left. KeyError if it is not there."""
        line = self._lines.get(request.tenant, [])
        place = self._place(request)
        at = bisect.bisect_left(line, place)
        if at == len(line) or line[at][2] is not request:
            raise KeyError(request)
        del line[at]
        self._count -= 1
        if not line:
            del self._lines[request.tenant]
            self._forget_absent()

    def serve(self, request: Waiting) -> None:
        """Takes it out and counts its tokens for its tenant. KeyError if it is not there."""
        before = self._served.get(request.tenant, 0.0)
        self.remove(request)
        self._served[request.tenant] = before + max(1, request.uncached_tokens)
        self._floor = max(self._floor, before)
        self._forget_absent()

    def first(self, eligible: Callable[[Waiting], bool] = lambda _: True) -> Waiting | None:
        """Who is next among the eligible. Changes nothing."""
        best: tuple[float, float, int] | None = None
        found = None
        for tenant, line in self._lines.items():
            for key, number, request in line:
                if eligible(request):
                    rank = (self._served[tenant], key, number)
                    if best is None or rank < best:
                        best, found = rank, request
                    break
        return found

    def _place(self, request: Waiting) -> _Place:
        return (self._order.key(request), request.number, request)

    def _forget_absent(self) -> None:
        if not self._lines:
            self._served.clear()
            self._floor = 0.0
        if len(self._served) <= len(self._lines) + _MAX_ABSENT:
            return
        # Those below the floor would begin there anyway; of the others the least served go.
        absent = sorted(self._served.keys() - self._lines.keys(), key=self._served.__getitem__)
        for tenant in absent[: -_MAX_ABSENT // 2]:
            del self._served[tenant]

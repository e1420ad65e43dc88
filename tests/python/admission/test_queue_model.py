"""The queue against a list: arrivals, ends, departures and full queues in any order."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from kvroute import Overloaded
from kvroute.admission import AdmissionQueue, QueueFull

LIMIT = 4


@dataclass
class Model:
    """Who runs and who waits, first come first served."""

    room: int
    running: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)

    def arrive(self, number: int) -> bool:
        """False: refused."""
        if len(self.waiting) == LIMIT:
            return False
        self.waiting.append(number)
        self.settle()
        return True

    def settle(self) -> None:
        while self.waiting and len(self.running) < self.room:
            self.running.append(self.waiting.pop(0))


class Held:
    """What a request gets; its release makes room."""

    def __init__(self, site: Site, number: int) -> None:
        self._site = site
        self.number = number

    def release(self) -> None:
        self._site.running.remove(self.number)
        self._site.queue.made_room()


class Site:
    def __init__(self, room: int) -> None:
        self.room = room
        self.running: list[int] = []
        self.queue = AdmissionQueue(limit=LIMIT, timeout=60.0, poll=60.0)
        self.tasks: dict[int, asyncio.Task[Held]] = {}
        self.refused: set[int] = set()

    def arrive(self, number: int) -> None:
        self.tasks[number] = asyncio.create_task(self._request(number))

    async def _request(self, number: int) -> Held:
        def attempt() -> Held:
            if len(self.running) >= self.room:
                raise Overloaded("no room")
            self.running.append(number)
            return Held(self, number)

        try:
            return await self.queue.admit(attempt)
        except QueueFull:
            self.refused.add(number)
            raise


async def settled() -> None:
    """Lets everything run that can."""
    for _ in range(8):
        await asyncio.sleep(0)


async def run(room: int, steps: list[tuple[str, int]]) -> None:
    site, model = Site(room), Model(room)
    refused: set[int] = set()
    for number, (step, which) in enumerate(steps):
        if step == "arrive":
            site.arrive(number)
            if not model.arrive(number):
                refused.add(number)
        elif step == "end" and model.running:
            ended = model.running.pop(which % len(model.running))
            (await site.tasks.pop(ended)).release()
            model.settle()
        elif step == "leave" and model.waiting:
            gone = model.waiting.pop(which % len(model.waiting))
            site.tasks.pop(gone).cancel()
        elif step == "grow":
            site.room = model.room = model.room + 1
            site.queue.made_room()
            model.settle()
        await settled()
        assert sorted(site.running) == sorted(model.running)
        assert len(site.queue) == len(model.waiting)
        assert site.refused == refused
    for task in site.tasks.values():
        task.cancel()
    await asyncio.gather(*site.tasks.values(), return_exceptions=True)
    assert len(site.queue) == 0
    assert site.queue._tries == {}
    site.queue.close()


@given(
    st.integers(0, 3),
    st.lists(
        st.tuples(st.sampled_from(["arrive", "arrive", "end", "leave", "grow"]), st.integers(0, 9)),
        max_size=40,
    ),
)
def test_it_lets_in_whom_the_model_lets_in(room: int, steps: list[tuple[str, int]]) -> None:
    asyncio.run(run(room, steps))

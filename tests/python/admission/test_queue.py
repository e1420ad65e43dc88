"""Waiting for room: who is let in when, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kvroute import Overloaded
from kvroute.admission import AdmissionQueue, AdmittedReservation, QueueFull, QueueTimeout

LONG = 30.0


class Reservation:
    def __init__(self, router: Router, worker: str) -> None:
        self._router = router
        self.choice = worker
        self.request_id = "r"
        self.released = False

    def first_token(self) -> None:
        self._router.first_tokens += 1

    def progress(self, output_tokens: int) -> None:
        self._router.progress = output_tokens

    def release(self, *_: Any) -> None:
        if not self.released:
            self.released = True
            self._router.room[self.choice] += 1


class Router:
    """Workers with room for so many requests each. The first token is the prompt's number, the
    second how many of its tokens a worker holds."""

    def __init__(self, **room: int) -> None:
        self.room = room
        self.admitted: list[int] = []
        self.attempts = 0
        self.first_tokens = 0
        self.progress = 0

    def reserve(self, token_ids: list[int], allowed: Any = None, **_: Any) -> Reservation:
        self.attempts += 1
        if token_ids[0] < 0:
            raise ValueError("token_ids: expected ids")
        free = [w for w, count in self.room.items() if count and (not allowed or w in allowed)]
        if not free:
            raise Overloaded("all workers are over their thresholds")
        self.room[free[0]] -= 1
        self.admitted.append(token_ids[0])
        return Reservation(self, free[0])

    def overlaps(self, token_ids: list[int], **_: Any) -> dict[tuple[str, int], int]:
        return {("w", 0): token_ids[1], ("v", 0): 0} if len(token_ids) > 1 else {}


@pytest.fixture
async def nothing_left() -> AsyncIterator[None]:
    yield
    gc.collect()
    current = asyncio.current_task()
    assert [task for task in asyncio.all_tasks() if task is not current] == []


async def line_up(
    queue: AdmissionQueue, *prompts: list[int], **options: Any
) -> list[asyncio.Task[AdmittedReservation]]:
    """Starts these requests and returns when all of them wait."""
    before = len(queue)
    tasks = []
    for prompt in prompts:
        tasks.append(asyncio.create_task(queue.reserve(prompt, timeout=LONG, **options)))
        await asyncio.sleep(0)
    assert len(queue) == before + len(prompts)
    return tasks


def queue_of(router: Router, **options: Any) -> AdmissionQueue:
    return AdmissionQueue(router, **{"poll": LONG, **options})


async def test_with_room_nobody_waits() -> None:
    router = Router(w=1)
    with await queue_of(router).reserve([1]) as admitted:
        assert admitted.choice == "w"
        admitted.first_token()
        admitted.progress(7)
        assert (router.first_tokens, router.progress, admitted.released) == (1, 7, False)
    assert admitted.released
    assert router.room == {"w": 1}


async def test_a_release_lets_the_next_one_in() -> None:
    router = Router(w=1)
    queue = queue_of(router)
    running = await queue.reserve([0])
    tasks = await line_up(queue, [1], [2], [3])
    for task in tasks:
        running.release()
        running = await task
    assert router.admitted == [0, 1, 2, 3]
    assert len(queue) == 0


async def test_news_of_room_from_elsewhere_lets_them_in() -> None:
    router = Router(w=0)
    queue = queue_of(router)
    tasks = await line_up(queue, [1], [2])
    attempts = router.attempts
    router.room["w"] = 2
    queue.made_room()
    queue.made_room()
    await asyncio.gather(*tasks)
    assert router.admitted == [1, 2]
    assert router.attempts == attempts + 2


async def test_room_that_nobody_told_of_is_found() -> None:
    router = Router(w=0)
    queue = queue_of(router, poll=0.001)
    tasks = await line_up(queue, [1])
    router.room["w"] = 1
    await asyncio.wait_for(tasks[0], 5)


async def test_one_who_comes_later_does_not_overtake() -> None:
    router = Router(w=0)
    queue = queue_of(router)
    first = await line_up(queue, [1])
    router.room["w"] = 1
    second = asyncio.create_task(queue.reserve([2], timeout=LONG))
    (await first[0]).release()
    await second
    assert router.admitted == [1, 2]


@pytest.mark.parametrize(
    ("order", "expected"), [("fcfs", [1, 2, 3]), ("shortest_uncached", [3, 1, 2])]
)
async def test_the_order_holds(order: str, expected: list[int]) -> None:
    router = Router(w=1)
    queue = queue_of(router, order=order, clock=lambda: 0.0)
    running = await queue.reserve([0])
    tasks = await line_up(queue, [1, 100] + [0] * 298, [2] + [0] * 399, [3, 150] + [0] * 248)
    while tasks:
        running.release()
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        running = done.pop().result()
        tasks = list(pending)
    assert router.admitted == [0, *expected]


async def test_priorities_go_first() -> None:
    router = Router(w=0)
    queue = queue_of(router, order="priority")
    tasks = await line_up(queue, [1], priority=5)
    tasks += await line_up(queue, [2], priority=-5)
    router.room["w"] = 2
    queue.made_room()
    await asyncio.gather(*tasks)
    assert router.admitted == [2, 1]


async def test_a_tenant_who_sends_much_shares_with_one_who_does_not() -> None:
    router = Router(w=0)
    queue = queue_of(router)
    tasks = await line_up(queue, *([n] for n in range(10)), tenant="flood")
    tasks += await line_up(queue, [100], [101], tenant="other")
    router.room["w"] = 4
    queue.made_room()
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert router.admitted == [0, 100, 1, 101]
    router.room["w"] = 8
    queue.made_room()
    await asyncio.gather(*tasks)


async def test_behind_a_refused_one_others_with_other_workers_go() -> None:
    router = Router(w=0, v=0)
    queue = queue_of(router)
    stuck = await line_up(queue, [1], [2], allowed=["w"])
    free = await line_up(queue, [3], allowed=["v"])
    await asyncio.sleep(0)
    router.room["v"] = 1
    attempts = router.attempts
    queue.made_room()
    await free[0]
    assert router.admitted == [3]
    assert router.attempts == attempts + 2  # [1] for both that may go to w only, and [3]
    router.room["w"] = 2
    queue.made_room()
    await asyncio.gather(*stuck)


async def test_one_with_free_workers_of_its_own_does_not_wait_for_others() -> None:
    router = Router(w=0, v=1)
    queue = queue_of(router)
    stuck = await line_up(queue, [1], allowed=["w"])
    await asyncio.wait_for(queue.reserve([2], allowed=["v"], timeout=LONG), 5)
    router.room["w"] = 1
    queue.made_room()
    await stuck[0]


@pytest.mark.parametrize(
    "stuck_with", [{"pinned": ("w", 0)}, {"labels": {"zone": "a"}}, {"dp_ranks": (1, 2)}]
)
async def test_one_who_is_bound_holds_nobody_else(stuck_with: dict[str, Any]) -> None:
    router = Router(w=0, v=1)
    queue = queue_of(router)
    bound = queue.reserve([1], allowed=["w"], timeout=LONG, **stuck_with)
    stuck = asyncio.ensure_future(bound)
    await asyncio.sleep(0)
    await asyncio.wait_for(queue.reserve([2], timeout=LONG), 5)
    router.room["w"] = 1
    queue.made_room()
    await stuck


async def test_a_prebuilt_set_may_wait() -> None:
    class Allowed:
        """Not to be gone through, as the core's."""

        def __contains__(self, worker: object) -> bool:
            return worker == "w"

    router = Router(w=0)
    queue = queue_of(router)
    waits = asyncio.ensure_future(queue.reserve([1], allowed=Allowed(), timeout=LONG))
    await asyncio.sleep(0)
    router.room["w"] = 1
    queue.made_room()
    await waits


async def test_a_priority_that_is_no_number_is_refused() -> None:
    queue = queue_of(Router(w=0), order="priority")
    with pytest.raises(ValueError, match="priority: expected a finite number, got nan"):
        await queue.reserve([1], priority=float("nan"))
    assert len(queue) == 0


async def test_a_full_queue_refuses() -> None:
    router = Router(w=0)
    queue = queue_of(router, limit=2)
    tasks = await line_up(queue, [1], [2])
    with pytest.raises(QueueFull, match="2 requests wait already") as caught:
        await queue.reserve([3])
    assert caught.value.retry_after >= 1
    router.room["w"] = 2
    queue.made_room()
    await asyncio.gather(*tasks)


@pytest.mark.usefixtures("nothing_left")
async def test_time_runs_out() -> None:
    router = Router(w=0)
    queue = queue_of(router, timeout=0.01)
    with pytest.raises(QueueTimeout, match=r"within 0\.01 seconds") as caught:
        await queue.reserve([1])
    assert 1 <= caught.value.retry_after <= 60
    assert len(queue) == 0
    assert queue._timer is None
    assert queue._tries == {}


@pytest.mark.usefixtures("nothing_left")
async def test_a_cancelled_one_leaves_nothing_behind() -> None:
    router = Router(w=0)
    queue = queue_of(router)
    tasks = await line_up(queue, [1], [2], [3])
    tasks[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    assert len(queue) == 2
    router.room["w"] = 2
    queue.made_room()
    await asyncio.gather(tasks[0], tasks[2])
    assert router.admitted == [1, 3]
    assert queue._tries == {}


async def test_what_one_gets_as_it_is_cancelled_goes_to_the_next() -> None:
    router = Router(w=0)
    queue = queue_of(router)
    tasks = await line_up(queue, [1], [2])
    router.room["w"] = 1
    queue._pump()  # [1] is let in, but does not run before it is cancelled
    tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    await tasks[1]
    assert router.admitted == [1, 2]
    assert router.room == {"w": 0}


async def test_an_error_of_the_router_reaches_who_caused_it() -> None:
    router = Router(w=0)
    queue = queue_of(router)
    with pytest.raises(ValueError, match="expected ids"):
        await queue.reserve([-1])
    tasks = await line_up(queue, [1])
    bad = asyncio.create_task(queue.reserve([-1], timeout=LONG))
    await asyncio.sleep(0)
    router.room["w"] = 1
    queue.made_room()
    await tasks[0]
    with pytest.raises(ValueError, match="expected ids"):
        await bad


async def test_retry_after_follows_the_rate_of_admissions() -> None:
    now = 0.0
    router = Router(w=0)
    queue = queue_of(router, limit=5, clock=lambda: now)
    tasks = await line_up(queue, *([n] for n in range(5)))
    for _ in range(3):
        now += 4.0
        router.room["w"] = 1
        queue._pump()
    tasks += await line_up(queue, [5], [6], [7])
    with pytest.raises(QueueFull) as caught:
        await queue.reserve([9])
    assert caught.value.retry_after == pytest.approx(4.0 * 6)
    router.room["w"] = 5
    queue.made_room()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"limit": 0}, "limit: expected at least 1, got 0"),
        ({"timeout": 0.0}, "timeout: expected seconds"),
        ({"timeout": float("nan")}, "timeout: expected seconds"),
        ({"poll": -1.0}, "poll: expected seconds"),
        ({"order": "lifo"}, "order: expected one of fcfs, priority, shortest_uncached, got 'lifo'"),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdmissionQueue(Router(), **wrong)

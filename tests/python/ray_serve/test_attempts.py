"""Attempts: which booking a replica's "completed" ends, whatever the order of what happens."""

from __future__ import annotations

import asyncio
import random

import kvroute
import pytest
from kvroute.ray_serve.attempts import Attempts
from kvroute.ray_serve.bookings import Booking, Bookings, HashedPrompt
from kvroute.ray_serve.routing import Routing
from serve_fakes import FakePending, FakeReplica, pending, state_of


@pytest.fixture
def router():
    with kvroute.KvRouter(16, seed=1) as made:
        for name in ("a", "b"):
            made.add_worker(name)
        yield made


def booked(router: kvroute.KvRouter, bookings: Bookings, worker: str = "a") -> Booking:
    prompt = HashedPrompt(kvroute.hash_blocks(list(range(64)), 16), 64)
    return bookings.book(router, prompt, [worker])


def test_a_completion_releases_the_booking_of_its_replica(router):
    bookings, attempts = Bookings(), Attempts(600.0)
    attempts.add("q", "a", booked(router, bookings, "a"))
    attempts.add("q", "b", booked(router, bookings, "b"))

    assert attempts.completed("q", "a")

    assert [target.active_requests for target in router.stats().targets] == [0, 1]
    assert len(attempts) == len(bookings) == 1


def test_a_rejected_attempt_frees_its_load_at_once_and_its_completion_ends_no_other(router):
    bookings, attempts = Bookings(), Attempts(600.0)
    rejected = attempts.add("q", "a", booked(router, bookings))
    rejected.sent = True
    attempts.void(rejected)
    assert router.stats().reservations == 0
    again = attempts.add("q", "a", booked(router, bookings))

    assert attempts.completed("q", "a")  # the rejected one's
    assert router.stats().reservations == 1
    assert not again.booking.released
    assert attempts.completed("q", "a")
    assert router.stats().reservations == 0


def test_an_attempt_that_was_never_sent_waits_for_no_completion(router):
    bookings, attempts = Bookings(), Attempts(600.0)
    attempts.void(attempts.add("q", "a", booked(router, bookings)))
    attempts.add("q", "a", booked(router, bookings))

    assert attempts.completed("q", "a")

    assert router.stats().reservations == len(attempts) == 0


@pytest.mark.parametrize("first", ["running", "unsent"])
def test_one_that_could_not_be_sent_ends_no_other_of_its_id(router, first):
    bookings, attempts = Bookings(), Attempts(600.0)
    made = {}
    for name in (first, *({"running", "unsent"} - {first})):
        made[name] = attempts.add("q", "a", booked(router, bookings))
    running, unsent = made["running"], made["unsent"]
    running.sent = True

    attempts.not_sent(unsent)
    attempts.void(unsent)

    assert unsent.booking is None
    assert not running.booking.released
    assert attempts.completed("q", "a")
    assert router.stats().reservations == len(attempts) == 0


def test_one_that_made_room_and_is_tried_again_ends_no_other_of_its_id(router):
    bookings, attempts = Bookings(), Attempts(600.0, most=2)
    selected = attempts.add("q", "a", booked(router, bookings))
    others = [attempts.add("q", "a", booked(router, bookings)) for _ in range(2)]
    attempts.void(selected)
    assert [other.booking is None for other in others] == [False, False]


def test_calls_that_share_an_id_are_completed_one_by_one(router):
    bookings, attempts = Bookings(), Attempts(600.0)
    for _ in range(6):
        attempts.add("q", "a", booked(router, bookings))
    left = []
    for _ in range(6):
        attempts.completed("q", "a")
        left.append(router.stats().reservations)
    assert left == [5, 4, 3, 2, 1, 0]
    assert not attempts.completed("q", "a")


def test_a_cancelled_request_holds_no_load_and_its_completions_still_come(router):
    bookings, attempts = Bookings(), Attempts(600.0)
    attempts.add("q", "a", booked(router, bookings))
    attempts.add("q", "b", booked(router, bookings, "b"))
    attempts.cancelled("q")
    assert router.stats().reservations == 0
    assert attempts.completed("q", "a")
    assert attempts.completed("q", "b")
    assert len(attempts) == 0


def test_the_oldest_make_room_and_those_that_nobody_speaks_of_are_given_up(router):
    now = [0.0]
    bookings = Bookings()
    attempts = Attempts(600.0, most=3, clock=lambda: now[0])
    kept = [attempts.add(f"q{i}", "a", booked(router, bookings)) for i in range(5)]
    assert len(attempts) == router.stats().reservations == 3
    assert [one.booking is None for one in kept] == [True, True, False, False, False]

    for attempt in kept:
        if attempt.booking is not None:
            attempt.booking.touched = -1.0
    now[0] = 700.0
    attempts.add("late", "a", None)
    attempts.add("later", "a", None)
    assert router.stats().reservations == 0


def test_an_attempt_whose_answer_goes_on_is_not_given_up(router):
    now = [0.0]
    attempts = Attempts(600.0, clock=lambda: now[0])
    booking = booked(router, Bookings())
    attempts.add("long", "a", booking)
    booking.touched = 500.0
    now[0] = 700.0
    attempts.add("other", "a", None)
    assert not booking.released
    assert attempts.completed("long", "a")


class ServeModel:
    """Serve, as its code goes: requests that are chosen for, sent, rejected, tried again, completed
    or cancelled, in any order; replicas that die and come."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.replicas = [FakeReplica(f"r{i}") for i in range(4)]
        self.fresh = 4
        self.state, self.member = state_of(self.replicas, seed=seed)
        self.searching: list[tuple[FakePending, Routing]] = []
        self.reserved: list[tuple[FakePending, Routing]] = []
        self.running: list[tuple[FakePending, Routing]] = []
        self.completions: list[tuple[str, str]] = []

    def any_of(self, things):
        return things.pop(self.random.randrange(len(things)))

    async def arrive(self):
        shared = self.random.randrange(6)  # concurrent calls of one HTTP request share their id
        ids = None if self.random.random() < 0.1 else list(range(shared, shared + 100))
        request = pending(f"q{shared}", ids)
        self.searching.append((request, await self.state.requests.begin(request, False)))

    async def choose(self):
        if self.searching:
            request, _ = self.random.choice(self.searching)
            await self.state.requests.choose(self.member, self.replicas, request)

    async def take(self):
        if not self.searching or not self.replicas:
            return
        request, routing = self.any_of(self.searching)
        replica = self.random.choice(self.replicas)  # the chosen one, or another with more room
        self.state.requests.take(routing, request, replica)
        if self.random.random() < 0.3:
            await asyncio.sleep(0)  # choose_replica: a slot is asked for first
            self.reserved.append((request, routing))
            return
        self.state.requests.sent(routing.attempt.worker)
        self.running.append((request, routing))

    async def fail_to_send(self):
        """Serve says at once that it has completed, and tries again."""
        if not self.searching or not self.replicas:
            return
        request, routing = self.any_of(self.searching)
        self.state.requests.take(routing, request, self.random.choice(self.replicas))
        self.state.requests.completed(*reversed(self.end_of(routing)))
        await self.begin_again(request, routing)

    async def slot_refused(self):
        if self.reserved:
            await self.begin_again(*self.any_of(self.reserved))

    async def dispatch(self):
        if self.reserved:
            self.running.append(self.any_of(self.reserved))

    async def reject(self):
        sent = [pair for pair in self.running if pair[1].attempt.sent]
        if not sent:
            return
        pair = self.random.choice(sent)
        self.running.remove(pair)
        self.completions.append(self.end_of(pair[1]))
        await self.begin_again(*pair)

    async def begin_again(self, request, routing):
        assert await self.state.requests.begin(request, True) is routing
        self.searching.append((request, routing))

    async def finish(self):
        if self.running:
            self.completions.append(self.end_of(self.any_of(self.running)[1]))

    async def cancel(self):
        if self.searching:
            request, routing = self.any_of(self.searching)
            self.state.requests.give_up(routing, request)

    async def hear_completion(self):
        if self.completions:
            request_id, worker = self.any_of(self.completions)
            self.state.requests.completed(worker, request_id)

    async def die(self):
        if len(self.replicas) > 1:
            dead = self.any_of(self.replicas)
            self.state.membership.died(dead.replica_id.unique_id)

    async def scale(self):
        if len(self.replicas) > 1 and self.random.random() < 0.5:
            self.any_of(self.replicas)
        else:
            self.replicas.append(FakeReplica(f"r{self.fresh}"))
            self.fresh += 1
        self.state.update_replicas(self.member, self.replicas)

    def end_of(self, routing: Routing) -> tuple[str, str]:
        return routing.metadata.internal_request_id, routing.attempt.worker

    async def go_on(self):
        often = [self.arrive, self.choose, self.choose, self.take, self.take]
        often += [self.finish, self.hear_completion, self.hear_completion]
        seldom = [self.reject, self.slot_refused, self.fail_to_send, self.dispatch, self.cancel]
        seldom += [self.die, self.scale]
        await self.random.choice(often * 2 + seldom)()

    async def end(self):
        while self.searching:
            await self.cancel()
        while self.reserved:
            await self.dispatch()
        while self.running:
            await self.finish()
        while self.completions:
            await self.hear_completion()


@pytest.mark.parametrize("seed", range(60))
async def test_no_booking_is_left_whatever_happened_in_which_order(seed):
    model = ServeModel(seed)
    state = model.state
    for _ in range(400):
        await model.go_on()
        assert state.started_router().stats().reservations == len(state.bookings)
        most = len(model.searching) + len(model.reserved) + len(model.running)
        assert len(state.bookings) <= most + len(model.completions)
    await model.end()
    assert state.started_router().stats().reservations == 0
    assert len(state.bookings) == len(state.attempts) == 0
    assert not set(state.counters.fallbacks) - {"move"}
    state.close()

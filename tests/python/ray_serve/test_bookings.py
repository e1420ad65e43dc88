"""Bookings: load in the core, told step by step to other routers."""

from __future__ import annotations

import threading

import kvroute
import pytest
from kvroute.ray_serve.bookings import Bookings, HashedPrompt

PROMPT = HashedPrompt(kvroute.hash_blocks(list(range(64)), 16), 70, expected_output_tokens=20)


class Told:
    """An exchange that writes down what it is told."""

    def __init__(self) -> None:
        self.steps: list[tuple] = []

    def booked(self, *step):
        self.steps.append(("booked", *step))

    def first_token(self, *step):
        self.steps.append(("first_token", *step))

    def progress(self, *step):
        self.steps.append(("progress", *step))

    def released(self, booking_id, *, served):
        self.steps.append(("released", booking_id, served))


@pytest.fixture
def router():
    with kvroute.KvRouter(16, seed=1) as made:
        made.add_worker("a", 2)
        made.add_worker("b")
        yield made


def test_each_step_is_told_once(router):
    bookings = Bookings()
    told = bookings.exchange = Told()
    booking = bookings.book(router, PROMPT, [("a", 1)], alternatives=2)
    for _ in range(2):
        booking.first_token()
        booking.progress(8)
        booking.progress(3)
        booking.release()
        booking.withdraw()
        booking.first_token()
        booking.progress(9)
    assert told.steps == [
        ("booked", 1, "a", 1, 70, PROMPT.local_hashes, 20),
        ("first_token", 1),
        ("progress", 1, 8),
        ("released", 1, True),
    ]
    assert router.stats().reservations == len(bookings) == 0


def test_what_no_replica_took_is_told_as_such(router):
    bookings = Bookings()
    told = bookings.exchange = Told()
    bookings.book(router, PROMPT, ["b"]).withdraw()
    assert told.steps[-1] == ("released", 1, False)


def test_nobody_can_end_a_booking_before_it_is_told(router):
    bookings = Bookings()

    class Busy(Told):
        def booked(self, *step):
            bookings.drop_all()  # as another thread may at any time
            super().booked(*step)

    told = bookings.exchange = Busy()
    booking = bookings.book(router, PROMPT, ["b"])
    assert [step[0] for step in told.steps] == ["booked"]
    booking.release()
    assert [step[0] for step in told.steps] == ["booked", "released"]


def test_output_is_remembered_where_it_is_given(router):
    bookings = Bookings()
    prompt = HashedPrompt(kvroute.hash_blocks(list(range(64)), 16), 64)
    bookings.book(router, prompt, ["b"]).release([*range(64, 81)])
    assert router.overlaps(list(range(80)))["b", 0] == 80


def test_a_booking_is_made_again_as_far_as_it_had_come(router):
    bookings = Bookings()
    booking = bookings.book(router, PROMPT, ["b"])
    booking.first_token()
    booking.progress(40)
    before = router.stats().targets[2].active_blocks
    router.remove_worker("b")
    router.add_worker("b")
    booking.book_again(router)
    target = router.stats().targets[2]
    assert (target.active_requests, target.active_prefill_tokens) == (1, 0)
    assert target.active_blocks == before
    booking.release()
    booking.book_again(router)
    assert router.stats().reservations == 0


def test_one_thread_ends_it_whoever_tries(router):
    bookings = Bookings()
    told = bookings.exchange = Told()
    for _ in range(200):
        booking = bookings.book(router, PROMPT, ["a", "b"])
        ends = [threading.Thread(target=end) for end in (booking.release, booking.withdraw)]
        for thread in ends:
            thread.start()
        for thread in ends:
            thread.join()
    assert sum(step[0] == "released" for step in told.steps) == 200
    assert router.stats().reservations == len(bookings) == 0

"""What peers are told of this process's own bookings."""

from __future__ import annotations

from array import array

import pytest
from kvroute.ray_serve.exchange import wire
from kvroute.ray_serve.exchange.limits import ExchangeLimits
from kvroute.ray_serve.exchange.operations import (
    Booked,
    FirstToken,
    Operation,
    Progress,
    Released,
)
from kvroute.ray_serve.exchange.outbox import Outbox
from kvroute.ray_serve.exchange.tally import Tally

HASHES = array("Q", range(10))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Sender:
    def __init__(self, limits: ExchangeLimits | None = None) -> None:
        self.clock = Clock()
        self.tally = Tally()
        self.outbox = Outbox(16, limits or ExchangeLimits(), self.tally, self.clock)

    def book(self, number: int, tokens: int = 165) -> None:
        self.outbox.booked(number, "w0", 1, tokens, HASHES, 30)

    def told(self) -> list[Operation]:
        return read(self.outbox.drain())


def read(operations: list[bytes]) -> list[Operation]:
    found: list[Operation] = []
    for message in wire.batches(operations):
        batch = wire.decode(message[wire.LENGTH_BYTES :])
        assert isinstance(batch, wire.Batch)
        found += batch.operations
    return found


@pytest.fixture
def sender() -> Sender:
    return Sender()


def test_a_booking_is_told_with_all_that_it_is(sender: Sender) -> None:
    sender.book(7)
    assert sender.told() == [Booked(7, "w0", 1, 165, 30, HASHES, False, 0, False)]
    assert sender.told() == []


def test_what_happens_within_one_batch_is_told_as_one_booking(sender: Sender) -> None:
    sender.book(7)
    sender.outbox.first_token(7)
    sender.outbox.progress(7, 3)
    assert sender.told() == [Booked(7, "w0", 1, 165, 30, HASHES, True, 3, False)]


def test_a_first_token_is_told_once(sender: Sender) -> None:
    sender.book(7)
    sender.told()
    sender.outbox.first_token(7)
    sender.outbox.first_token(7)
    assert sender.told() == [FirstToken(7)]
    sender.outbox.first_token(7)
    assert sender.told() == []


def test_progress_is_told_when_another_block_is_full(sender: Sender) -> None:
    sender.book(7, tokens=165)  # 11 tokens are missing to the eleventh block
    sender.told()
    told = []
    for tokens in range(1, 45):
        sender.outbox.progress(7, tokens)
        told += sender.told()
    assert told == [Progress(7, 11), Progress(7, 27), Progress(7, 43)]


def test_the_end_is_told_with_the_exact_count(sender: Sender) -> None:
    sender.book(7)
    sender.told()
    sender.outbox.progress(7, 3)
    sender.outbox.first_token(7)
    sender.outbox.released(7, True)
    sender.outbox.released(7, True)
    assert sender.told() == [FirstToken(7), Released(7, 3)]
    assert len(sender.outbox) == 0


def test_a_booking_that_ended_before_anybody_heard_of_it_leaves_its_blocks(sender: Sender) -> None:
    sender.book(7)
    sender.outbox.released(7, True)
    (told,) = sender.told()
    assert isinstance(told, Booked)
    assert told.ended
    assert len(sender.outbox) == 0


def test_a_booking_that_its_replica_refused_at_once_is_not_told(sender: Sender) -> None:
    sender.book(7)
    sender.outbox.released(7, False)
    assert sender.told() == []


def test_a_booking_that_its_replica_refused_later_is_told_to_end(sender: Sender) -> None:
    sender.book(7)
    sender.told()
    sender.outbox.released(7, False)
    assert sender.told() == [Released(7, 0)]


def test_the_state_of_a_running_booking_is_told_as_it_stands(sender: Sender) -> None:
    sender.book(7)
    sender.outbox.first_token(7)
    sender.told()
    sender.outbox.progress(7, 20)
    sender.told()
    (number,) = sender.outbox.live
    state = sender.outbox.state(number)
    assert state is not None
    assert read([state]) == [Booked(7, "w0", 1, 165, 30, HASHES, True, 20, False)]
    assert sender.outbox.state(8) is None


def test_unknown_bookings_are_passed_over(sender: Sender) -> None:
    sender.outbox.first_token(1)
    sender.outbox.progress(1, 100)
    sender.outbox.released(1, True)
    assert sender.told() == []


def test_a_silent_booking_ends_after_its_lifetime(sender: Sender) -> None:
    for number in (1, 2):
        sender.book(number)
    sender.told()
    sender.clock.now += 599
    sender.outbox.progress(1, 1)  # no block more, but a sign of life
    sender.told()
    sender.clock.now += 2
    assert read(sender.outbox.expire()) == [Released(2, 0)]
    assert sender.outbox.live == [1]


def test_beyond_the_bounds_nothing_is_kept_and_it_is_counted() -> None:
    sender = Sender(ExchangeLimits(max_live=2))
    for number in range(5):
        sender.book(number)
    assert len(sender.told()) == 2
    assert sender.tally.dropped == 3
    sender = Sender(ExchangeLimits(max_live_bytes=250))  # about 100 bytes each
    for number in range(5):
        sender.book(number)
    assert len(sender.told()) == 2
    sender.outbox.released(0, True)
    sender.book(9)
    assert [type(one) for one in sender.told()] == [Released, Booked], "room is found again"


def test_calls_that_nobody_works_through_are_bounded_and_ends_come_last() -> None:
    sender = Sender(ExchangeLimits(max_inbox=10))
    for number in range(50):
        sender.book(number)
    assert sender.outbox.waiting == 10
    for number in range(50):
        sender.outbox.progress(number, 50)
    assert sender.outbox.waiting == 10
    for number in range(10):
        sender.outbox.released(number, True)
    assert sender.outbox.waiting == 20
    sender.told()
    assert len(sender.outbox) == 0


def test_what_cannot_be_told_is_dropped_and_the_rest_goes_on(
    sender: Sender, caplog: pytest.LogCaptureFixture
) -> None:
    for worker, tokens in (("w" * 2000, 16), ("w0", -1), ("w0", 2**40)):
        sender.outbox.booked(1, worker, 0, tokens, HASHES, None)
    sender.outbox.booked(2**70, "w0", 0, 165, HASHES, None)
    sender.book(2)
    sender.outbox.progress(2, -5)
    sender.outbox.progress(2, 2**40)
    assert [one.booking_id for one in sender.told()] == [2]
    assert sender.tally.dropped == 4
    assert len(caplog.records) == 1, "logged once"

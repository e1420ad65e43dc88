"""RoutedCall: ids on the way to the router, tokens noted on the way back."""

from __future__ import annotations

import pickle
import threading
from array import array
from typing import Any

import numpy as np
import pytest
from fake_handles import FakeBooking, Response
from kvroute.ray_serve import RoutedCall

# Token ids.


@pytest.mark.parametrize(
    "given",
    [
        [1, 2, 2**32 - 1],
        (1, 2, 2**32 - 1),
        array("I", [1, 2, 2**32 - 1]),
        array("q", [1, 2, 2**32 - 1]),
        np.array([1, 2, 2**32 - 1]),
        np.array([1, 2, 2**32 - 1], dtype=np.uint32),
        np.array([1, 0, 2, 0, 2**32 - 1], dtype=">u8")[::2],
    ],
    ids=lambda given: type(given).__name__,
)
def test_ids_of_any_kind_become_an_array_that_knows_its_call(given: Any) -> None:
    call = RoutedCall(given)
    assert call.token_ids == array("I", [1, 2, 2**32 - 1])
    assert call.token_ids.call is call


@pytest.mark.parametrize(
    "given",
    [
        [],
        [-1],
        [2**32],
        ["a"],
        [1.5],
        "text",
        b"text",
        None,
        5,
        np.array([-1]),
        np.array([1.5]),
        np.zeros((1, 2), int),
    ],
    ids=repr,
)
def test_what_are_no_ids_is_refused(given: Any) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        RoutedCall(given)


def test_ids_reach_a_replica_as_a_plain_array() -> None:
    ids = RoutedCall([1, 2]).token_ids
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        arrived = pickle.loads(pickle.dumps(ids, protocol))
        assert type(arrived) is array
        assert arrived == array("I", [1, 2])


# What the router is told.


def test_the_first_token_is_told_once_it_is_there_and_then_the_count() -> None:
    call, booking = RoutedCall([1]), FakeBooking()
    call.bind(booking)
    call.note(0)
    assert booking.told == []
    call.note()
    call.note(3)
    assert booking.told == ["first_token", 1, 4]


def test_tokens_that_come_before_the_booking_are_told_when_it_is_there() -> None:
    call, booking = RoutedCall([1]), FakeBooking()
    call.note(2)
    call.bind(booking)
    assert booking.told == ["first_token", 2]


def test_a_request_that_is_tried_again_counts_for_its_new_booking() -> None:
    call, rejected, taken = RoutedCall([1]), FakeBooking(), FakeBooking()
    call.bind(rejected)
    call.bind(taken)
    call.note()
    assert rejected.told == []
    assert taken.told == ["first_token", 1]


def test_output_ids_are_given_with_the_release() -> None:
    call, booking = RoutedCall([1]), FakeBooking()
    call.release([9])
    call.bind(booking)
    call.release([9])
    assert booking.told == [("release", [9])]


def test_no_token_is_lost_between_threads() -> None:
    call, booking = RoutedCall([1]), FakeBooking()

    def note() -> None:
        for _ in range(1000):
            call.note()

    threads = [threading.Thread(target=note) for _ in range(4)]
    for thread in threads:
        thread.start()
    call.bind(booking)
    for thread in threads:
        thread.join()
    call.note()
    assert booking.told[-1] == 4001


async def test_watching_counts_items_or_what_they_are_said_to_have() -> None:
    call, booking = RoutedCall([1]), FakeBooking()
    call.bind(booking)
    assert [item async for item in call.watch(Response(["a", "bc"]), len)] == ["a", "bc"]
    assert booking.told == ["first_token", 1, 3]


async def test_an_error_in_the_stream_reaches_the_caller_and_ends_no_booking() -> None:
    call, booking = RoutedCall([1]), FakeBooking()
    call.bind(booking)
    with pytest.raises(RuntimeError, match="broken"):
        async for _ in call.watch(Response(["a", RuntimeError("broken")])):
            pass
    assert booking.told == ["first_token", 1]

"""What an ingress calls a deployment with: ids on the way in, tokens noted on the way back."""

from __future__ import annotations

import asyncio
import gc
import pickle
import sys
import threading
from array import array
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from kvroute.ray_serve import MissingTokenIdsError, RoutedCall, call, stream
from kvroute.ray_serve.calls import CallTokenIds


class FakeBooking:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def first_token(self) -> None:
        self.told.append("first_token")

    def progress(self, output_tokens: int) -> None:
        self.told.append(output_tokens)

    def release(self, output_token_ids: Any = None) -> None:
        self.told.append(("release", output_token_ids))


class Response:
    """Ray's response generator, as far as it is used. Gives `items`, raising those that are
    exceptions; without items it waits for ever."""

    def __init__(self, items: Sequence[Any]) -> None:
        self._items = iter(items)
        self._waits = not items
        self.cancelled = False

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        await asyncio.sleep(3600 if self._waits else 0)
        for item in self._items:
            if isinstance(item, Exception):
                raise item
            return item
        raise StopAsyncIteration

    def cancel(self) -> None:
        self.cancelled = True


class Method:
    """A method of a handle; its router books the call as soon as it is made."""

    deployment_id = SimpleNamespace(app_name="app", name="Model")

    def __init__(self, *items: Any) -> None:
        self.items = items
        self.args: tuple[Any, ...] | None = None
        self.kwargs: dict[str, Any] = {}
        self.booking = FakeBooking()

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        self.args, self.kwargs = args, kwargs
        for value in kwargs.values():
            if type(value) is CallTokenIds:
                value.call.bind(self.booking)
        self.response = Response(self.items)
        return self.response


class UnaryMethod(Method):
    def remote(self, *args: Any, **kwargs: Any) -> Any:
        super().remote(*args, **kwargs)

        async def answer() -> Any:
            return "answer"

        return answer()


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
    [[-1], [2**32], ["a"], [1.5], None, 5, np.array([-1]), np.array([1.5]), np.zeros((1, 2), int)],
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
    assert booking.told == ["first_token", 1, "first_token", 4]


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
    assert booking.told[1::2] == [1, 3]


async def test_an_error_in_the_stream_reaches_the_caller_and_ends_no_booking() -> None:
    call, booking = RoutedCall([1]), FakeBooking()
    call.bind(booking)
    with pytest.raises(RuntimeError, match="broken"):
        async for _ in call.watch(Response(["a", RuntimeError("broken")])):
            pass
    assert booking.told == ["first_token", 1]


# Streams.


async def test_a_stream_hands_arguments_and_ids_over_and_gives_the_items() -> None:
    method = Method("a", "b")
    items = [item async for item in stream(method, {"x": 1}, 2, token_ids=[1, 2], other=3)]
    assert items == ["a", "b"]
    assert method.args == ({"x": 1}, 2)
    assert method.kwargs == {"other": 3, "request_token_ids": array("I", [1, 2])}
    assert method.booking.told[-1] == 2
    assert not method.response.cancelled


def test_the_request_is_on_its_way_before_anybody_waits_for_items() -> None:
    method = Method("a")
    stream(method, token_ids=[1], token_ids_keyword="ids")
    assert method.kwargs == {"ids": array("I", [1])}


async def test_an_opened_stream_still_has_its_first_item() -> None:
    items = await stream(Method("a", "b"), token_ids=[1]).opened()
    assert await items.opened() is items
    assert await anext(items) == "a"
    assert [item async for item in items] == ["b"]


async def test_a_stream_that_has_ended_gives_nothing_more() -> None:
    items = await stream(Method("last"), token_ids=[1]).opened()
    assert [item async for item in items] == ["last"]
    assert [item async for item in await items.opened()] == []


async def test_what_fails_before_the_first_item_is_raised_at_the_opening() -> None:
    items = stream(Method(MissingTokenIdsError()), token_ids=[1])
    with pytest.raises(MissingTokenIdsError):
        await items.opened()


@pytest.mark.parametrize("token_ids", [[1], None])
async def test_a_loop_that_is_left_early_cancels_the_request(token_ids: Any) -> None:
    method = Method("a", "b")
    async for _ in stream(method, token_ids=token_ids):
        break
    gc.collect()
    await asyncio.sleep(0)  # a generator that nobody has any more is closed by the loop
    await asyncio.sleep(0)
    assert method.response.cancelled


async def test_a_cancelled_loop_cancels_the_request() -> None:
    method = Method()
    waiting = asyncio.ensure_future(anext(stream(method, token_ids=[1])))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert method.response.cancelled


async def test_a_stream_may_be_closed_before_its_first_item_and_twice() -> None:
    method = Method("a")
    items = await stream(method, token_ids=[1]).opened()
    await items.aclose()
    await items.aclose()
    assert method.response.cancelled
    assert [item async for item in items] == []


async def test_a_call_gives_the_answer() -> None:
    method = UnaryMethod()
    assert await call(method, {"x": 1}, token_ids=[1], other=3) == "answer"
    assert method.args == ({"x": 1},)
    assert method.kwargs == {"other": 3, "request_token_ids": array("I", [1])}


async def test_the_expected_length_travels_with_the_ids() -> None:
    method = UnaryMethod()
    await call(method, token_ids=[1], expected_output_tokens=7)
    assert method.kwargs["request_token_ids"].call.expected_output_tokens == 7


# Missing token ids.


@pytest.mark.parametrize("token_ids", [None, [], array("I"), np.array([], dtype=int)])
async def test_missing_ids_are_an_error_before_the_handle_is_called(token_ids: Any) -> None:
    method = Method("a")
    with pytest.raises(MissingTokenIdsError):
        stream(method, token_ids=token_ids, on_missing_tokens="error")
    with pytest.raises(MissingTokenIdsError):
        await call(method, token_ids=token_ids, on_missing_tokens="error")
    assert method.args is None


@pytest.mark.parametrize("on_missing_tokens", ["balance", None])
async def test_missing_ids_are_left_to_the_router_otherwise(on_missing_tokens: Any) -> None:
    method = Method("a")
    items = stream(method, token_ids=[], on_missing_tokens=on_missing_tokens)
    assert [item async for item in items] == ["a"]
    assert method.kwargs == {"request_token_ids": []}


@pytest.mark.parametrize(("said", "raises"), [("error", True), ("balance", False)])
def test_the_deployments_own_options_hold_where_they_are_known(
    monkeypatch: pytest.MonkeyPatch, said: str, raises: bool
) -> None:
    def options_of(app: str, deployment: str) -> Any:
        assert (app, deployment) == ("app", "Model")
        return SimpleNamespace(on_missing_tokens=said)

    monkeypatch.setitem(
        sys.modules,
        "kvroute.ray_serve.deployment_state",
        SimpleNamespace(options_of=options_of),
    )
    method = Method("a")
    if raises:
        with pytest.raises(MissingTokenIdsError):
            stream(method, token_ids=None)
        stream(method, token_ids=None, on_missing_tokens="balance")
    else:
        stream(method, token_ids=None)
    assert method.args == ()

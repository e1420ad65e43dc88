"""stream and call: what an ingress calls a deployment with."""

from __future__ import annotations

import asyncio
import gc
import sys
from array import array
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_handles import Method, UnaryMethod
from kvroute.ray_serve import MissingTokenIdsError, RoutedStream, call, stream

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


@pytest.mark.parametrize("wait", [anext, RoutedStream.opened])
async def test_a_cancelled_wait_cancels_the_request(wait: Any) -> None:
    method = Method()
    waiting = asyncio.ensure_future(wait(stream(method, token_ids=[1])))
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


@pytest.mark.parametrize("token_ids", [[-1], "text", 5])
def test_what_are_no_ids_is_as_if_there_were_none(token_ids: Any) -> None:
    method = Method("a")
    with pytest.raises(MissingTokenIdsError, match="no token ids to route it by: "):
        stream(method, token_ids=token_ids, on_missing_tokens="error")
    stream(method, token_ids=token_ids)
    assert method.kwargs == {"request_token_ids": token_ids}


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

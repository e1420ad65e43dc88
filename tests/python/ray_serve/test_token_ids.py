"""TokenSource.read: where token ids are found, and what counts as none."""

from __future__ import annotations

import logging
import re
from array import array
from collections import UserDict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from kvroute.ray_serve.calls import RoutedCall
from kvroute.ray_serve.counters import Counters
from kvroute.ray_serve.options import RouterOptions
from kvroute.ray_serve.token_ids import Prompt, TokenSource
from pending_requests import pending

HERE = __name__


def source(counters: Counters | None = None, **options: Any) -> TokenSource:
    return TokenSource(RouterOptions.parse(options), counters)


def user_function(request: Any) -> Any:
    return request.kwargs["prompt"]["ids"]


class WatchedList(list[int]):
    """Counts how often one looks at an id."""

    looks = 0

    def __getitem__(self, index: Any) -> Any:
        self.looks += 1
        return super().__getitem__(index)

    def __iter__(self) -> Any:
        raise AssertionError("iterated")


@pytest.mark.parametrize(
    "ids",
    [
        [3, 4, 5],
        (3, 4, 5),
        array("I", [3, 4, 5]),
        array("q", [3, 4, 5]),
        memoryview(array("I", [3, 4, 5])),
        np.array([3, 4, 5]),
        np.array([3, 4, 5], dtype=np.uint32),
        [np.int64(3), np.int64(4), np.int64(5)],
        [2**32 - 1],
    ],
    ids=lambda ids: type(ids).__name__,
)
def test_token_ids_of_any_kind_are_handed_on_as_they_are(ids: Any) -> None:
    prompt = source().read(pending({}, request_token_ids=ids))
    assert prompt is not None
    assert prompt.token_ids is ids


@pytest.mark.parametrize("ids", [None, [], (), array("I"), np.array([], dtype=np.int32)])
def test_missing_and_empty_ids_are_none_and_nothing_is_wrong_with_them(ids: Any) -> None:
    counters = Counters()
    assert source(counters).read(pending({}, request_token_ids=ids)) is None
    assert source(counters).read(pending({})) is None
    assert counters.malformed_token_ids == 0


@pytest.mark.parametrize(
    "ids",
    [
        "a text",
        b"bytes",
        ["a", "b"],
        [1, -1],
        [-1, 1],
        [True],
        [1.0],
        [2**32],
        [None],
        {"ids": [1]},
        7,
        np.array([1.0]),
        np.array([True]),
        np.array(["2026-01-01"], dtype="datetime64[D]"),
        np.zeros((0, 3), dtype=int),
        np.array(5),
        memoryview(b"ab"),
        object(),
    ],
    # No addresses: every process of a test run is to name its tests alike.
    ids=lambda ids: re.sub(" at 0x.*", "", repr(ids)),
)
def test_what_is_no_token_ids_is_missing_and_counted(ids: Any) -> None:
    counters = Counters()
    assert source(counters).read(pending({}, request_token_ids=ids)) is None
    assert counters.malformed_token_ids == 1


def test_a_long_prompt_is_looked_at_in_a_few_places_only() -> None:
    ids = WatchedList(range(100_000))
    assert source().read(pending({}, request_token_ids=ids)) is not None
    assert ids.looks <= 4


@pytest.mark.parametrize("batch", [[[3, 4], [5]], ([3, 4], [5]), np.array([[3, 4], [5, 6]])])
def test_a_batch_is_routed_by_its_first_prompt(batch: Any) -> None:
    prompt = source().read(pending({}, request_token_ids=batch))
    assert prompt is not None
    assert list(prompt.token_ids) == [3, 4]


def test_another_keyword_is_read_where_the_options_name_one() -> None:
    reader = source(token_ids_keyword="ids")
    assert reader.read(pending(ids=[1])) == Prompt([1])
    assert reader.read(pending(request_token_ids=[1])) is None


@pytest.mark.parametrize(
    ("path", "args", "kwargs"),
    [
        ("0", ([1, 2],), {}),
        ("0.prompt_token_ids", ({"prompt_token_ids": [1, 2]},), {}),
        ("0.prompt_token_ids", (SimpleNamespace(prompt_token_ids=[1, 2]),), {}),
        ("1.prompt", (None, UserDict(prompt=[1, 2])), {}),
        ("body.prompt", (), {"body": {"prompt": [1, 2]}}),
        ("body.prompts.0.ids", (), {"body": {"prompts": [{"ids": [1, 2]}]}}),
    ],
)
def test_a_path_leads_to_the_ids(path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    assert source(token_ids_argument=path).read(pending(*args, **kwargs)) == Prompt([1, 2])


class Failing:
    @property
    def prompt(self) -> Any:
        raise RuntimeError


@pytest.mark.parametrize("args", [(), ({},), (None,), ("text",), (Failing(),)])
def test_a_path_that_leads_nowhere_finds_nothing(args: tuple[Any, ...]) -> None:
    assert source(token_ids_argument="0.prompt").read(pending(*args)) is None
    assert source(token_ids_argument="3.prompt").read(pending(*args)) is None


def test_the_keyword_comes_before_the_path_and_the_path_before_the_function() -> None:
    reader = source(token_ids_argument="0.prompt", token_ids_function=f"{HERE}:user_function")
    everywhere = pending({"prompt": [2]}, request_token_ids=[1], prompt={"ids": [3]})
    assert reader.read(everywhere) == Prompt([1])
    del everywhere.kwargs["request_token_ids"]
    assert reader.read(everywhere) == Prompt([2])
    everywhere.args = []
    assert reader.read(everywhere) == Prompt([3])


def test_malformed_ids_give_way_to_the_next_place() -> None:
    reader = source(token_ids_argument="0.prompt")
    assert reader.read(pending({"prompt": [2]}, request_token_ids="text")) == Prompt([2])


def test_a_function_that_fails_leaves_the_request_without_ids(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reader = source(token_ids_function=f"{HERE}:user_function")
    with caplog.at_level(logging.WARNING, "ray.serve"):
        assert reader.read(pending()) is None
        assert reader.read(pending()) is None
    assert [record.getMessage() for record in caplog.records] == [
        "token_ids_function failed: routed without token ids"
    ]


def test_session_and_model_are_those_of_the_metadata() -> None:
    request = pending(request_token_ids=[1], session_id="s", multiplexed_model_id="adapter")
    assert source().read(request) == Prompt([1], "s", "adapter")
    request.metadata = SimpleNamespace(multiplexed_model_id="")  # a Ray without sessions
    assert source().read(request) == Prompt([1])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"max_tokens": 8}, 8),
        ({"max_tokens": 8, "max_completion_tokens": 9}, 9),
        (SimpleNamespace(max_tokens=8, max_completion_tokens=None), 8),
        ({"max_tokens": 0}, None),
        ({"max_tokens": "8"}, None),
        ({"max_tokens": True}, None),
        ("text", None),
    ],
)
def test_the_length_of_the_answer_is_the_limit_in_the_first_argument(
    body: Any, expected: int | None
) -> None:
    prompt = source().read(pending(body, request_token_ids=[1]))
    assert prompt is not None
    assert prompt.expected_output_tokens == expected


def test_ids_of_a_routed_call_bring_it_along() -> None:
    call = RoutedCall([1, 2], expected_output_tokens=5)
    prompt = source().read(pending({"max_tokens": 8}, request_token_ids=call.token_ids))
    assert prompt == Prompt(call.token_ids, None, None, 5, call)


async def test_without_a_tokenizer_nothing_is_computed() -> None:
    reader = source()
    assert not reader.computes
    assert await reader.compute(pending({"prompt": "a text"})) is None
    reader.close()

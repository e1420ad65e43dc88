from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kvroute.disagg.estimate import estimate_tokens

SETTINGS = settings(
    deadline=None,  # and no check of speed: machines are busy
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=12,
)
TEXTS = st.lists(st.text(max_size=11), max_size=6)
IDS = st.lists(st.integers(0, 2**32 - 1), max_size=9)


@SETTINGS
@given(IDS)
def test_token_ids_are_counted(ids: list[int]) -> None:
    assert estimate_tokens({"prompt": ids}) == len(ids)


@SETTINGS
@given(st.lists(IDS, max_size=5))
def test_lists_of_token_ids_are_counted_together(batch: list[list[int]]) -> None:
    assert estimate_tokens({"prompt": batch}) == sum(map(len, batch))


@SETTINGS
@given(TEXTS)
def test_texts_are_added_before_they_are_divided(texts: list[str]) -> None:
    characters = sum(map(len, texts))
    assert estimate_tokens({"prompt": texts}) == characters // 4
    assert estimate_tokens({"prompt": "".join(texts)}) == characters // 4
    messages = [{"role": "user", "content": text} for text in texts]
    assert estimate_tokens({"messages": messages}) == characters // 4
    parts = [{"type": "text", "text": text} for text in texts]
    assert estimate_tokens({"messages": [{"role": "user", "content": parts}]}) == characters // 4


@pytest.mark.parametrize(("characters", "tokens"), [(0, 0), (3, 0), (4, 1), (5, 1), (7, 1), (8, 2)])
def test_four_characters_are_a_token(characters: int, tokens: int) -> None:
    assert estimate_tokens({"prompt": "é" * characters}) == tokens


def test_parts_that_are_no_text_count_nothing() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:" + "A" * 400}, "text": "A" * 400}
    content = [{"type": "text", "text": "abcd"}, image, {"type": "input_audio"}, "efgh"]
    assert estimate_tokens({"messages": [{"role": "user", "content": content}]}) == 2


def test_roles_names_and_tool_calls_count_nothing() -> None:
    call = {"function": {"name": "f", "arguments": "x" * 80}}
    message = {"role": "assistant", "name": "somebody", "content": None, "tool_calls": [call]}
    assert estimate_tokens({"messages": [message]}) == 0


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prompt": ""},
        {"prompt": []},
        {"prompt": [[]]},
        {"prompt": None},
        {"prompt": 7},
        {"prompt": {"a": 1}},
        {"prompt": [True, None, 1.5, {}]},
        {"messages": []},
        {"messages": "text"},
        {"messages": [None, 3, [], {"content": {"text": "abcd"}}, {}]},
        {"messages": [{"content": [{"type": ["text"], "text": "abcd"}, {"text": 4}]}]},
        {"prompt_embeds": "AAAA"},
    ],
)
def test_what_is_empty_or_odd_counts_nothing(fields: dict[str, Any]) -> None:
    assert estimate_tokens(fields) == 0


def test_of_a_mixed_list_what_is_known_counts() -> None:
    assert estimate_tokens({"prompt": [1, 2, "abcd", [3, "x", True], None]}) == 4


@SETTINGS
@given(st.dictionaries(st.sampled_from(["prompt", "messages"]), JSON))
def test_no_body_raises_or_is_negative(fields: dict[str, Any]) -> None:
    assert estimate_tokens(fields) >= 0


@SETTINGS
@given(st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": JSON}), max_size=4))
def test_no_content_raises(messages: list[Any]) -> None:
    assert estimate_tokens({"messages": messages}) >= 0

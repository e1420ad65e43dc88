from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kvroute.disagg import sse
from kvroute.disagg.usage import UsageChange, UsageRelay, prefill_change

SETTINGS = settings(
    deadline=None,  # and no check of speed: machines are busy
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
DECODE = {
    "prompt_tokens": 11,
    "completion_tokens": 4,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 10},
}
CHANGE = UsageChange(1, True, {"cached_tokens": 3})
CHANGED = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 3},
}


@pytest.mark.parametrize(
    ("details", "own", "client"),
    [
        ({"cached_tokens": 3}, {"cached_tokens": 10}, {"cached_tokens": 3}),
        ({"cached_tokens": 3}, {"cached_tokens": 10, "x": 1}, {"cached_tokens": 3, "x": 1}),
        ({"cached_tokens": 3}, None, {"cached_tokens": 3}),
        (None, {"cached_tokens": 10}, None),
        (None, None, None),
    ],
)
def test_the_prefill_legs_cached_tokens_are_the_clients(
    details: Any, own: Any, client: Any
) -> None:
    answer = {"usage": {"prompt_tokens": 10, "prompt_tokens_details": details}}
    change = prefill_change(answer)
    assert change.apply({"prompt_tokens_details": own})["prompt_tokens_details"] == client


def test_running_counts_get_no_details_that_they_had_not() -> None:
    counts = {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}
    event = sse.data_event({"choices": [{"text": "a"}], "usage": counts})
    changed = sse.document(UsageRelay(CHANGE).chunk(event))
    assert changed is not None
    assert changed["usage"] == {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def test_details_that_nobody_gave_do_not_appear() -> None:
    assert prefill_change({"usage": {}}).apply({"prompt_tokens": 1}) == {"prompt_tokens": 1}
    assert prefill_change({}).apply(DECODE) == DECODE


@pytest.mark.parametrize("body", [b"", b"x", b'{"usage"', b'{"usage":null}', b'["usage"]', b"{}"])
def test_a_body_without_usage_is_left_alone(body: bytes) -> None:
    assert UsageRelay(CHANGE).whole(body) is body


def test_a_whole_answers_usage_is_changed_and_nothing_else() -> None:
    body = orjson.dumps({"id": "x", "choices": [{"text": '"usage"'}], "usage": DECODE})
    answer = orjson.loads(UsageRelay(CHANGE).whole(body))
    assert answer == {"id": "x", "choices": [{"text": '"usage"'}], "usage": CHANGED}


def test_without_a_change_nothing_is_parsed() -> None:
    body = b'{"usage" : {}}'
    assert UsageRelay().whole(body) is body
    assert UsageRelay().chunk(body) is body


PLAIN = st.sampled_from(
    [
        b'data: {"choices":[{"text":"a"}]}\n\n',
        b'data: {"choices":[{"text":"say \\"usage\\" twice"}],"usage":null}\r\n\r\n',
        b'data: {"choices":[{"text":"usage"}], "k": "usage"}\n\n',
        b": comment\n\n",
        b'data: {"usage": broken\n\n',
        b"data: [DONE]\n\n",
    ]
)


@SETTINGS
@given(st.lists(PLAIN, max_size=5), st.lists(PLAIN, max_size=3), st.data())
def test_a_streams_usage_is_changed_under_any_chunk_borders(
    before: list[bytes], after: list[bytes], data: st.DataObject
) -> None:
    event = sse.data_event({"choices": [], "usage": DECODE})
    stream = b"".join([*before, event, *after])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    splitter, relay, out = sse.EventSplitter(), UsageRelay(CHANGE), b""
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        out += relay.chunk(splitter.feed(stream[start:end]))
    assert splitter.rest() == b""
    assert out == b"".join([*before, sse.data_event({"choices": [], "usage": CHANGED}), *after])
    assert relay.head() == b""

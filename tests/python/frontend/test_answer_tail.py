"""The usage at the end of whole and streamed answers."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvroute.frontend.answer_tail import (
    NO_USAGE,
    TAIL_BYTES,
    TAIL_CHUNKS,
    Usage,
    new_tail,
    usage_of,
)

USAGE = {
    "prompt_tokens": 120,
    "completion_tokens": 4,
    "prompt_tokens_details": {"cached_tokens": 96},
}


def tail_of(answer: bytes, size: int = 1 << 16) -> Any:
    tail = new_tail()
    for start in range(0, len(answer), size):
        tail.append(answer[start : start + size][-TAIL_BYTES:])
    return tail


def stream(usage: Any, *, compact: bool = True) -> bytes:
    """As vLLM's: every chunk has a usage, null but for the last one."""
    separators = (",", ":") if compact else (", ", ": ")
    chunks = [
        {"choices": [{"delta": {"content": f"word {n}"}}], "usage": None} for n in range(50)
    ] + [{"choices": [], "usage": usage}]
    lines = [f"data: {json.dumps(one, separators=separators)}\n\n" for one in chunks]
    return "".join([*lines, "data: [DONE]\n\n"]).encode()


@pytest.mark.parametrize("compact", [True, False])
def test_a_streams_usage_is_that_of_its_last_chunk(compact: bool) -> None:
    assert usage_of(tail_of(stream(USAGE, compact=compact))) == Usage(120, 96)


@pytest.mark.parametrize("indent", [None, 2])
def test_a_whole_answers_usage_is_found_with_what_follows_it(indent: int | None) -> None:
    answer = {"choices": [{"text": "word " * 20_000}], "usage": USAGE, "kv_transfer_params": None}
    assert usage_of(tail_of(json.dumps(answer, indent=indent).encode())) == Usage(120, 96)


@given(st.integers(1024, 4096), st.booleans())
def test_it_is_found_however_the_answer_is_cut(size: int, whole: bool) -> None:
    answer = json.dumps({"choices": [], "usage": USAGE}).encode() if whole else stream(USAGE)
    assert usage_of(tail_of(answer, size)) == Usage(120, 96)


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        (None, NO_USAGE),
        ({}, NO_USAGE),
        ({"prompt_tokens": 7}, Usage(7, None)),
        ({"prompt_tokens": 7, "prompt_tokens_details": None}, Usage(7, None)),
        ({"prompt_tokens": 7, "prompt_tokens_details": {}}, Usage(7, None)),
        ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": None}}, Usage(7, None)),
        ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 0}}, Usage(7, 0)),
        ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": True}}, Usage(7, None)),
        ({"prompt_tokens": -7, "prompt_tokens_details": {"cached_tokens": -1}}, NO_USAGE),
        ({"prompt_tokens": "7", "prompt_tokens_details": [1]}, NO_USAGE),
        ({"prompt_tokens": 10**400}, NO_USAGE),
    ],
)
def test_what_is_absent_or_no_count_is_unknown(usage: Any, read: Usage) -> None:
    assert usage_of(tail_of(json.dumps({"usage": usage}).encode())) == read
    assert usage_of(tail_of(stream(usage))) == read


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[DONE]",
        b'{"usage":',
        b'{"usage":{',
        b'{"usage":{"prompt_tokens":1',
        b'{"usage":' + b'{"a":' * 6000,
        b'{"usage":{"prompt_tokens":"\xff\xfe"}}',
        b'"usage"' * 4000,
        b'{"usage":"' + b"x" * 9000,
    ],
)
def test_rubbish_is_no_usage(answer: bytes) -> None:
    assert usage_of(tail_of(answer)) == NO_USAGE


def test_what_was_generated_is_not_taken_for_the_usage() -> None:
    said = json.dumps({"usage": {"prompt_tokens": 1}})
    answer = json.dumps({"usage": USAGE, "choices": [{"text": said}]})
    assert usage_of(tail_of(answer.encode())) == Usage(120, 96)
    assert usage_of(tail_of(json.dumps({"choices": [{"text": said}]}).encode())) == NO_USAGE


def test_a_tail_is_bounded_and_random_bytes_are_harmless() -> None:
    rng = random.Random(3)
    for _ in range(200):
        tail = tail_of(rng.randbytes(rng.randrange(200_000)), rng.choice([100, 5000, 70_000]))
        assert sum(map(len, tail)) <= TAIL_BYTES * TAIL_CHUNKS
        assert usage_of(tail) == NO_USAGE

"""When a silent event stream is noticed, and what is said of it."""

from __future__ import annotations

import pytest
from kvroute.frontend.event_watch import FIRST_CHECK, EventWatch, stream_in_words, why_silent


def test_a_stream_that_speaks_is_asked_for_once() -> None:
    watch = EventWatch()
    asked = [number for number in range(1, 200) if watch.note_stored() and not watch.look(HEARD)]
    assert asked == [FIRST_CHECK]
    assert watch.heard
    assert not watch.silent


def test_a_silent_stream_is_told_once_and_asked_for_ever_more_seldom() -> None:
    watch = EventWatch()
    asked = []
    for number in range(1, 10_000):
        if watch.note_stored():
            changed = watch.look({"batches": 0, "connected": 1})
            asked.append(number)
            assert changed == (len(asked) == 1)
    assert asked == [20, 40, 80, 160, 320, 640, 1280, 2560, 3840, 5120, 6400, 7680, 8960]
    assert watch.look(HEARD)
    assert not watch.silent
    assert not watch.note_stored()


def test_blocks_below_the_device_are_events_too() -> None:
    watch = EventWatch()
    watch.look({"stored_lower": 1})
    assert watch.heard


@pytest.mark.parametrize(
    ("counters", "said"),
    [
        ({"connected": 0}, "no publisher answers at tcp://e:1"),
        ({"connected": 1}, "connected and silent"),
        ({"connected": 1, "batches": 4, "refused_block_size": 9}, "--block-size is 16"),
        ({"connected": 1, "undecodable": 9}, "cannot be read"),
        ({}, "no publisher answers"),
    ],
)
def test_the_counters_tell_why(counters: dict[str, int], said: str) -> None:
    assert said in why_silent(counters, "tcp://e:1", 16)


def test_a_stream_in_words_names_what_went_wrong() -> None:
    words = stream_in_words({"connected": 1, "batches": 12000, "gaps": 2, "bad_events": 3})
    assert words.startswith("connected, 12,000 batches, 0 stored blocks")
    assert "2 gaps" in words
    assert "3 bad events" in words
    assert "undecodable" not in words


HEARD = {"connected": 1, "batches": 1, "stored_blocks": 1}

"""Events byte for byte as vLLM's encoders make them (vllm/distributed/kv_events.py)."""

from __future__ import annotations

import msgpack
import pytest
from kvroute.engines.events import EventEncoder, EventFormat

TS = 1.5
FIRST = 7982712666671721126
SECOND = 12675106281628537544

MAP_STORED = (
    "93cb3ff8000000000000918ba474797065ab426c6f636b53746f726564ac626c6f636b5f68617368657391cf6ec84a"
    "e048faaaa6b1706172656e745f626c6f636b5f68617368c0a9746f6b656e5f696473920102aa626c6f636b5f73697a"
    "6502a76c6f72615f6964c0a66d656469756da3475055a96c6f72615f6e616d65c0aa65787472615f6b65797391c0a9"
    "67726f75705f69647800b26b765f63616368655f737065635f6b696e64ae66756c6c5f617474656e74696f6e00"
)
MAP_REMOVED = (
    "93cb3ff80000000000009184a474797065ac426c6f636b52656d6f766564ac626c6f636b5f68617368657391cf6ec8"
    "4ae048faaaa6a66d656469756da3475055a967726f75705f6964780000"
)
MAP_CLEARED = "93cb3ff80000000000009181a474797065b0416c6c426c6f636b73436c656172656400"
ARRAY_STORED = (
    "93cb3ff8000000000000919cab426c6f636b53746f72656491cf6ec84ae048faaaa6cfafe70601eeca92c892010202"
    "c0a3475055c091c000ae66756c6c5f617474656e74696f6ec000"
)
ARRAY_CLEARED = "93cb3ff80000000000009191b0416c6c426c6f636b73436c656172656400"


def test_a_map_event_is_what_vllm_sends_since_0_24() -> None:
    encoder = EventEncoder(EventFormat.MAP, block_size=2)
    assert encoder.batch(TS, [encoder.stored([FIRST], None, [1, 2])]).hex() == MAP_STORED
    assert encoder.batch(TS, encoder.removed([FIRST])).hex() == MAP_REMOVED
    assert encoder.batch(TS, [encoder.cleared()]).hex() == MAP_CLEARED


def test_an_array_event_is_what_vllm_sent_before() -> None:
    encoder = EventEncoder(EventFormat.ARRAY, block_size=2)
    assert encoder.batch(TS, [encoder.stored([FIRST], SECOND, [1, 2])]).hex() == ARRAY_STORED
    assert encoder.batch(TS, [encoder.cleared()]).hex() == ARRAY_CLEARED
    removed = [msgpack.unpackb(event) for event in encoder.removed([FIRST, 7])]
    assert removed == [["BlockRemoved", [FIRST], "GPU", 0], ["BlockRemoved", [7], "GPU", 0]]


@pytest.mark.parametrize("event_format", list(EventFormat))
def test_a_salt_is_named_in_a_sequence_s_first_block_only(event_format: EventFormat) -> None:
    encoder = EventEncoder(event_format, block_size=1)
    first = msgpack.unpackb(encoder.stored([FIRST, SECOND], None, [1, 2], salt="tenant"))
    later = msgpack.unpackb(encoder.stored([SECOND], FIRST, [2], salt="tenant"))
    key: int | str = "extra_keys" if event_format is EventFormat.MAP else 8
    assert first[key] == [["tenant"], None]
    assert later[key] == [None]


def test_a_batch_may_have_more_events_than_a_short_header_counts() -> None:
    encoder = EventEncoder(EventFormat.MAP, block_size=1)
    events = msgpack.unpackb(encoder.batch(TS, encoder.removed(range(70_000))))[1]
    assert [event["block_hashes"] for event in events] == [[name] for name in range(70_000)]


def test_a_batch_names_its_rank_and_time() -> None:
    encoder = EventEncoder(EventFormat.MAP, block_size=1, dp_rank=3)
    assert msgpack.unpackb(encoder.batch(TS, [])) == [TS, [], 3]

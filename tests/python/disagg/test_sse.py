from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kvroute.disagg import sse

SETTINGS = settings(
    deadline=None,  # and no check of speed: machines are busy
    derandomize=True,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)
LINES = st.lists(
    st.sampled_from([b"data: {}", b"data: a\xc3\xa9", b"data:b", b": note", b"event: x", b"data"]),
    min_size=1,
    max_size=3,
)
STREAMS = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n"])), max_size=5).map(
    lambda events: [end.join([*lines, b"", b""]) for lines, end in events]
)


@SETTINGS
@given(
    STREAMS, st.binary(max_size=4).filter(lambda b: b"\n" not in b and b"\r" not in b), st.data()
)
def test_any_cut_of_a_stream_gives_its_events_whole(
    stream: list[bytes], rest: bytes, data: st.DataObject
) -> None:
    text = b"".join(stream) + rest
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    splitter = sse.EventSplitter()
    given_out = []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        whole = splitter.feed(text[start:end])
        assert not whole or whole.endswith((b"\n\n", b"\n\r\n"))
        given_out.append(whole)
    assert b"".join(given_out) + splitter.rest() == text
    assert [e for whole in given_out for e in sse.events(whole)] == stream


def test_an_event_without_end_is_refused() -> None:
    splitter = sse.EventSplitter(max_event_bytes=10)
    assert splitter.feed(b"data: 12") == b""
    with pytest.raises(sse.EventTooLongError, match="at most 10 bytes"):
        splitter.feed(b"345")


@pytest.mark.parametrize(
    ("event", "data", "found"),
    [
        (b'data: {"a":1}\n\n', b'{"a":1}', {"a": 1}),
        (b'event: x\r\ndata:{"a":1}\r\n\r\n', b'{"a":1}', {"a": 1}),
        (b'data: {"a":\ndata: 1}\n\n', b'{"a":\n1}', {"a": 1}),
        (b"data: [DONE]\n\n", b"[DONE]", None),
        (b"data: {broken\n\n", b"{broken", None),
        (b": ping\n\n", None, None),
        (b"\n", None, None),
    ],
)
def test_an_events_data(event: bytes, data: bytes | None, found: dict[str, int] | None) -> None:
    assert sse.payload(event) == data
    assert sse.document(event) == found

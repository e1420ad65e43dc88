"""Server-sent events: a byte stream cut at the borders of its events.

Source of the format: https://html.spec.whatwg.org/multipage/server-sent-events.html. A line ends
with LF or CRLF; a lone CR, which the format also allows, is sent by no engine and ends none here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

DONE = b"data: [DONE]\n\n"

_BORDER = re.compile(rb"\n\r?\n")
_LONGEST_BORDER = 3


class EventTooLongError(ValueError):
    """A stream whose event does not end within the limit."""


class EventSplitter:
    """Takes a stream in any pieces and gives it back in whole events. Not thread-safe.

    Every byte comes out once and in order. Linear in the stream's length.

    Args:
        max_event_bytes: of an event that has not ended yet.
    """

    def __init__(self, max_event_bytes: int = 64 << 20) -> None:
        self._max = max_event_bytes
        self._pending = bytearray()

    def feed(self, data: bytes) -> bytes:
        """All whole events that are now there, b"" where none is. Raises EventTooLongError."""
        if not self._pending and data.endswith(b"\n\n"):
            return data
        searched = max(0, len(self._pending) - _LONGEST_BORDER)
        self._pending += data
        end = 0
        for border in _BORDER.finditer(self._pending, searched):
            end = border.end()
        whole = bytes(self._pending[:end])
        del self._pending[:end]
        if len(self._pending) > self._max:
            raise EventTooLongError(f"event: expected at most {self._max} bytes")
        return whole

    def rest(self) -> bytes:
        """What came after the last whole event, once the stream has ended."""
        rest = bytes(self._pending)
        self._pending.clear()
        return rest


def events(data: bytes) -> Iterator[bytes]:
    """The events in whole events' bytes, each with its border; a rest without one comes last."""
    start = 0
    for border in _BORDER.finditer(data):
        yield data[start : border.end()]
        start = border.end()
    if start < len(data):
        yield data[start:]


def payload(event: bytes) -> bytes | None:
    """The data of an event: its data lines, joined by LF. None where it has none (a comment)."""
    lines = []
    for line in event.split(b"\n"):
        name, _, value = line.rstrip(b"\r").partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines) if lines else None


def document(event: bytes) -> dict[str, Any] | None:
    """The JSON object that an event carries; None for any other event ([DONE], a comment)."""
    data = payload(event)
    if data is None or not data.lstrip().startswith(b"{"):
        return None
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def data_event(fields: Mapping[str, Any]) -> bytes:
    """An event that carries a JSON object."""
    return b"data: " + orjson.dumps(fields) + b"\n\n"

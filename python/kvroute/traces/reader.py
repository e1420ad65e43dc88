"""Reads Mooncake-style JSONL traces.

One JSON object a line: `timestamp` (milliseconds from the start), `input_length`,
`output_length` (tokens) and `hash_ids` (one for each 512 input tokens, the last possibly for a
partial block). Source of the format: github.com/kvcache-ai/Mooncake, `FAST25-release/traces`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from kvroute.traces.request import TraceError, TraceRequest, blocks_for

MAX_LINE_BYTES = 4 << 20
"""Longer lines are refused: a request of a million blocks fits."""

_HASH_ID_LIMIT = 1 << 64


def read_trace(path: Path, limit: int | None = None) -> list[TraceRequest]:
    """Reads the first `limit` requests of the trace at `path`, or all of them.

    Raises `TraceError` where the file cannot be read, holds no request, or where a line breaks
    the format.
    """
    requests: list[TraceRequest] = []
    try:
        with path.open("rb") as lines:
            for request in _parse(path, lines):
                if limit is not None and len(requests) >= limit:
                    break
                requests.append(request)
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not requests:
        raise TraceError(f"{path}: holds no request")
    return requests


def _parse(path: Path, lines: BinaryIO) -> Iterator[TraceRequest]:
    latest = 0.0
    number = 0
    while line := lines.readline(MAX_LINE_BYTES + 1):
        number += 1
        where = f"{path}:{number}"
        if len(line) > MAX_LINE_BYTES:
            raise TraceError(f"{where}: line is longer than {MAX_LINE_BYTES} bytes")
        if not line.strip():
            continue
        request = parse_request(line, where)
        if request.timestamp < latest:
            raise TraceError(
                f"{where}: field 'timestamp': expected no earlier than the line before "
                f"({latest * 1000:.0f} ms), got {request.timestamp * 1000:.0f}"
            )
        latest = request.timestamp
        yield request


def parse_request(line: bytes, where: str) -> TraceRequest:
    """Parses one line; `where` begins the message of a `TraceError`."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TraceError(f"{where}: not JSON: {error}") from error
    if not isinstance(record, dict):
        raise TraceError(f"{where}: expected a JSON object, got {_named(record)}")
    input_length = _integer(record, "input_length", where, minimum=1)
    return TraceRequest(
        timestamp=_milliseconds(record, where) / 1000.0,
        input_length=input_length,
        output_length=_integer(record, "output_length", where, minimum=0),
        hash_ids=_hash_ids(record, where, blocks_for(input_length)),
    )


def _field(record: dict[str, Any], name: str, where: str) -> Any:
    if name not in record:
        raise TraceError(f"{where}: field '{name}' is missing")
    return record[name]


def _milliseconds(record: dict[str, Any], where: str) -> float:
    value = _field(record, "timestamp", where)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:
        raise TraceError(
            f"{where}: field 'timestamp': expected milliseconds >= 0, got {_named(value)}"
        )
    return float(value)


def _integer(record: dict[str, Any], name: str, where: str, minimum: int) -> int:
    value = _field(record, name, where)
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise TraceError(
            f"{where}: field '{name}': expected an integer >= {minimum}, got {_named(value)}"
        )
    return value


def _hash_ids(record: dict[str, Any], where: str, expected: int) -> tuple[int, ...]:
    value = _field(record, "hash_ids", where)
    if not isinstance(value, list):
        raise TraceError(f"{where}: field 'hash_ids': expected a list, got {_named(value)}")
    if len(value) != expected:
        raise TraceError(
            f"{where}: field 'hash_ids': expected {expected} ids (one for each 512 input tokens), "
            f"got {len(value)}"
        )
    for position, item in enumerate(value):
        if type(item) is not int or not 0 <= item < _HASH_ID_LIMIT:
            raise TraceError(
                f"{where}: field 'hash_ids'[{position}]: expected an integer in [0, 2^64), "
                f"got {_named(item)}"
            )
    return tuple(value)


def _named(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

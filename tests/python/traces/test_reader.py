from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from kvroute.traces import TraceError, TraceRequest, read_trace
from kvroute.traces.reader import MAX_LINE_BYTES

GOOD: dict[str, Any] = {
    "timestamp": 3000,
    "input_length": 600,
    "output_length": 5,
    "hash_ids": [0, 7],
}


def write(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_reads_milliseconds_as_seconds_and_ids_as_a_tuple(tmp_path: Path) -> None:
    requests = read_trace(write(tmp_path / "t.jsonl", GOOD))
    assert requests == [TraceRequest(3.0, 600, 5, (0, 7))]


def test_stops_at_the_limit_without_reading_on(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", GOOD, GOOD, {**GOOD, "timestamp": "never read"})
    assert len(read_trace(path, limit=1)) == 1


def test_passes_over_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(f"\n{json.dumps(GOOD)}\n\n")
    assert len(read_trace(path)) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timestamp": "x"}, "field 'timestamp': expected milliseconds >= 0, got 'x'"),
        ({"timestamp": True}, "field 'timestamp': expected milliseconds >= 0, got True"),
        ({"timestamp": -1}, "field 'timestamp': expected milliseconds >= 0, got -1"),
        ({"timestamp": float("nan")}, "field 'timestamp': expected milliseconds >= 0, got nan"),
        ({"timestamp": float("inf")}, "field 'timestamp': expected milliseconds >= 0, got inf"),
        ({"input_length": 0}, "field 'input_length': expected an integer >= 1, got 0"),
        ({"input_length": 1.5}, "field 'input_length': expected an integer >= 1, got 1.5"),
        ({"output_length": -1}, "field 'output_length': expected an integer >= 0, got -1"),
        ({"output_length": False}, "field 'output_length': expected an integer >= 0, got False"),
        ({"hash_ids": {}}, "field 'hash_ids': expected a list, got {}"),
        ({"hash_ids": [0]}, r"field 'hash_ids': expected 2 ids .*, got 1"),
        ({"hash_ids": [0, -1]}, r"field 'hash_ids'\[1\]: expected an integer in .*, got -1"),
        ({"hash_ids": [0, True]}, r"field 'hash_ids'\[1\]: expected an integer in .*, got True"),
        ({"hash_ids": [0, 1 << 64]}, r"field 'hash_ids'\[1\]: expected an integer in .*, got 184"),
    ],
)
def test_names_the_line_and_the_field_that_is_wrong(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "t.jsonl", GOOD, {**GOOD, **change})
    with pytest.raises(TraceError, match=rf"t\.jsonl:2: {message}"):
        read_trace(path)


@pytest.mark.parametrize("name", list(GOOD))
def test_names_a_missing_field(tmp_path: Path, name: str) -> None:
    record = {key: value for key, value in GOOD.items() if key != name}
    with pytest.raises(TraceError, match=rf"t\.jsonl:1: field '{name}' is missing"):
        read_trace(write(tmp_path / "t.jsonl", record))


@pytest.mark.parametrize("line", ["{", "[1]", "7", '"text"', "[" * 5000])
def test_refuses_lines_that_are_not_objects(tmp_path: Path, line: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(TraceError, match=r"t\.jsonl:1: (not JSON|expected a JSON object)"):
        read_trace(path)


def test_refuses_time_that_runs_backwards(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", GOOD, {**GOOD, "timestamp": 2999})
    with pytest.raises(
        TraceError, match=r"t\.jsonl:2: field 'timestamp': .* \(3000 ms\), got 2999"
    ):
        read_trace(path)


def test_refuses_a_line_without_end(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b" " * (MAX_LINE_BYTES + 1))
    with pytest.raises(TraceError, match=r"t\.jsonl:1: line is longer than"):
        read_trace(path)


def test_refuses_bytes_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\xff\xfe{}\n")
    with pytest.raises(TraceError, match=r"t\.jsonl:1: not JSON"):
        read_trace(path)


def test_says_when_there_is_no_file_or_no_request(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path / "missing.jsonl")
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(TraceError, match="holds no request"):
        read_trace(tmp_path / "empty.jsonl")


@pytest.mark.skipif("KVROUTE_TRACES" not in os.environ, reason="KVROUTE_TRACES names no folder")
def test_the_real_trace_has_no_fault() -> None:
    path = Path(os.environ["KVROUTE_TRACES"]) / "conversation_trace.jsonl"
    requests = read_trace(path)
    assert len(requests) == 12_031
    assert requests[0] == TraceRequest(0.0, 6758, 500, tuple(range(14)))

from __future__ import annotations

from pathlib import Path

import pytest
from kvroute.traces import TraceError, TraceSource, cache_folder, find_trace, load_trace

LINE = '{"timestamp": 0, "input_length": 5, "output_length": 2, "hash_ids": [0]}\n'
NAME = "conversation_trace.jsonl"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """All places hold the trace, but the given path."""
    cache, folder = tmp_path / "cache", tmp_path / "traces"
    for place in (cache / "kvroute" / "traces", folder):
        place.mkdir(parents=True)
        (place / NAME).write_text(LINE)
    return {"XDG_CACHE_HOME": str(cache), "KVROUTE_TRACES": str(folder)}


def test_a_given_file_comes_first(environment: dict[str, str], tmp_path: Path) -> None:
    given = tmp_path / "mine.jsonl"
    given.write_text(LINE)
    assert find_trace(given, environment) == (TraceSource.GIVEN, given)


def test_a_given_path_without_a_file_is_an_error(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(TraceError, match=r"mine\.jsonl: no such file"):
        find_trace(tmp_path / "mine.jsonl", environment)


def test_the_environments_folder_comes_second(environment: dict[str, str]) -> None:
    expected = Path(environment["KVROUTE_TRACES"]) / NAME
    assert find_trace(None, environment) == (TraceSource.ENVIRONMENT, expected)


def test_an_environment_that_names_no_folder_is_an_error(environment: dict[str, str]) -> None:
    environment["KVROUTE_TRACES"] += "/missing"
    with pytest.raises(TraceError, match="KVROUTE_TRACES: expected a folder"):
        find_trace(None, environment)


def test_the_download_comes_third(environment: dict[str, str]) -> None:
    Path(environment["KVROUTE_TRACES"], NAME).unlink()
    expected = Path(environment["XDG_CACHE_HOME"]) / "kvroute" / "traces" / NAME
    assert find_trace(None, environment) == (TraceSource.DOWNLOADED, expected)


def test_without_any_file_it_is_generated_and_says_so(tmp_path: Path) -> None:
    trace = load_trace(limit=20, seed=4, environment={"XDG_CACHE_HOME": str(tmp_path)})
    assert trace.source is TraceSource.GENERATED
    assert len(trace.requests) == 20
    assert str(trace) == "generated, of the conversation trace's statistics (seed 4)"


def test_a_file_is_loaded_and_named(environment: dict[str, str]) -> None:
    trace = load_trace(limit=20, environment=environment)
    assert len(trace.requests) == 1
    assert str(trace) == f"{environment['KVROUTE_TRACES']}/{NAME} (file in $KVROUTE_TRACES)"


@pytest.mark.parametrize("configured", ["", "relative/path"])
def test_the_cache_folder_ignores_what_is_not_absolute(
    configured: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    expected = Path("/home/someone/.cache/kvroute/traces")
    assert cache_folder({"XDG_CACHE_HOME": configured}) == expected
    assert cache_folder({}) == expected

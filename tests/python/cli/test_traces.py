"""`kvroute traces`."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import typer
from kvroute.cli.traces import register
from kvroute.traces import cache_folder
from typer.testing import CliRunner

BODY = b'{"timestamp": 0, "input_length": 600, "output_length": 3, "hash_ids": [0, 1]}\n' * 2
NAME = "conversation_trace.jsonl"


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    register(app)
    return app


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serves BODY, which passes for the real file."""
    sha256 = hashlib.sha256(BODY).hexdigest()
    monkeypatch.setattr("kvroute.traces.public_source.CONVERSATION_TRACE_SHA256", sha256)

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/good" else 404)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_download_puts_the_trace_where_kvroute_looks_for_it(
    command: typer.Typer, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("kvroute.traces.public_source.CONVERSATION_TRACE_URL", f"{url}/good")
    result = CliRunner().invoke(command, ["traces", "download"])
    assert result.exit_code == 0, result.output
    assert (cache_folder() / NAME).read_bytes() == BODY
    assert "SHA-256 as expected" in result.output

    again = CliRunner().invoke(command, ["traces", "download", "--url", f"{url}/missing"])
    assert again.exit_code == 0
    assert "already there" in again.output


def test_download_goes_to_the_folder_that_is_given(
    command: typer.Typer, url: str, tmp_path: Path
) -> None:
    arguments = ["traces", "download", "--dest", str(tmp_path / "a" / "b"), "--url", f"{url}/good"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a" / "b" / NAME).read_bytes() == BODY


def test_a_failed_download_says_why_and_exits_1(
    command: typer.Typer, url: str, tmp_path: Path
) -> None:
    arguments = ["traces", "download", "--dest", str(tmp_path), "--url", f"{url}/missing"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 1
    assert f"kvroute traces download: {url}/missing: the server answered 404" in result.output
    assert not list(tmp_path.iterdir())


def test_info_prints_the_statistics(command: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(BODY)
    result = CliRunner().invoke(command, ["traces", "info", str(path)])
    assert result.exit_code == 0, result.output
    assert "mean 600, median 600, max 600" in result.output
    assert "hits 50.00% of all blocks" in result.output


def test_info_names_the_line_that_is_wrong(command: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"timestamp": 0}) + "\n")
    result = CliRunner().invoke(command, ["traces", "info", str(path)])
    assert result.exit_code == 1
    assert "t.jsonl:1: field 'input_length' is missing" in result.output

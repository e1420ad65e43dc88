"""`download` against a server that answers in every wrong way."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from kvroute.traces import DownloadError, download

BODY = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        getattr(self, f"answer_{self.path[1:]}")()

    def answer_good(self) -> None:
        self.send_body(BODY, len(BODY))

    def answer_changed(self) -> None:
        self.send_body(BODY[:-1] + b"!", len(BODY))

    def answer_truncated(self) -> None:
        self.send_body(BODY[:1000], len(BODY))

    def answer_unannounced(self) -> None:
        self.send_body(BODY, None)

    def answer_missing(self) -> None:
        self.send_error(404)

    def answer_elsewhere(self) -> None:
        self.send_response(302)
        self.send_header("Location", "/good")
        self.end_headers()

    def answer_out(self) -> None:
        self.send_response(302)
        self.send_header("Location", "file:///etc/hostname")
        self.end_headers()

    def answer_stalled(self) -> None:
        self.send_body(BODY[:1000], len(BODY))
        self.server.released.wait(30)  # type: ignore[attr-defined]

    def answer_garbage(self) -> None:
        self.wfile.write(b"no HTTP at all\r\n\r\n")

    def send_body(self, body: bytes, announced: int | None) -> None:
        self.send_response(200)
        if announced is not None:
            self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def server() -> Iterator[str]:
    answering = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    answering.released = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=answering.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{answering.server_port}"
    answering.released.set()  # type: ignore[attr-defined]
    answering.shutdown()
    thread.join(10)
    answering.server_close()


@pytest.mark.parametrize("path", ["good", "unannounced", "elsewhere"])
def test_a_verified_file_appears_whole(server: str, tmp_path: Path, path: str) -> None:
    destination = tmp_path / "new" / "folder" / "trace.jsonl"
    seen: list[tuple[int, int | None]] = []
    download(
        f"{server}/{path}",
        destination,
        sha256=SHA256,
        progress=lambda received, total: seen.append((received, total)),
    )
    assert destination.read_bytes() == BODY
    assert list(destination.parent.iterdir()) == [destination]
    assert destination.stat().st_mode & 0o777 == 0o644
    assert seen[-1][0] == len(BODY)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("changed", f"expected SHA-256 {SHA256}, got "),
        ("truncated", f"the transfer broke off: 1000 of {len(BODY)} bytes"),
        ("missing", "the server answered 404"),
        ("out", "the server answered 302"),
        ("garbage", "the transfer broke off: BadStatusLine"),
    ],
)
def test_a_wrong_answer_leaves_the_old_file_alone(
    server: str, tmp_path: Path, path: str, message: str
) -> None:
    destination = tmp_path / "trace.jsonl"
    destination.write_text("the old one")
    with pytest.raises(DownloadError, match=message):
        download(f"{server}/{path}", destination, sha256=SHA256)
    assert destination.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [destination]


@pytest.mark.parametrize(("path", "message"), [("good", "announced"), ("unannounced", "sent")])
def test_an_oversized_file_is_refused(server: str, tmp_path: Path, path: str, message: str) -> None:
    with pytest.raises(DownloadError, match=f"{message}.* more than 100000|{message} more than"):
        download(f"{server}/{path}", tmp_path / "t", sha256=SHA256, max_bytes=100_000)
    assert not list(tmp_path.iterdir())


def test_a_server_that_stalls_is_given_up(server: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"no answer within 1 s"):
        download(f"{server}/stalled", tmp_path / "t", sha256=SHA256, timeout=1.0)
    assert not list(tmp_path.iterdir())


def test_a_server_that_dribbles_meets_the_deadline(server: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="too slow"):
        download(f"{server}/good", tmp_path / "t", sha256=SHA256, deadline=0.0)
    assert not list(tmp_path.iterdir())


def test_an_unreachable_server_is_named(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/trace"
        with pytest.raises(DownloadError, match=rf"{url}: cannot be reached: .*refused"):
            download(url, tmp_path / "t", sha256=SHA256)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "trace.jsonl"])
def test_only_http_is_fetched(url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="expected an http"):
        download(url, tmp_path / "t", sha256=SHA256)


def test_a_destination_that_cannot_be_written_is_named(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="file/t: cannot be written"):
        download(f"{server}/good", tmp_path / "file" / "t", sha256=SHA256)

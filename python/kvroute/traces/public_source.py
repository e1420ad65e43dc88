"""Downloads the Mooncake conversation trace from its public source."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO

CONVERSATION_TRACE_URL = (
    "https://raw.githubusercontent.com/kvcache-ai/Mooncake/main/"
    "FAST25-release/traces/conversation_trace.jsonl"
)
CONVERSATION_TRACE_SHA256 = "b8cbb061a85206d729d91cdc2981f43c9e0d99209dce588d3af5f7934408b9df"
MAX_BYTES = 16 << 20

_CHUNK_BYTES = 1 << 16

ProgressCallback = Callable[[int, "int | None"], None]
"""Called with the bytes received so far and the announced total, if the server gave one."""


class DownloadError(RuntimeError):
    """The file could not be had; the message says from where and why. Nothing was left behind."""


def download(
    url: str,
    destination: Path,
    *,
    sha256: str,
    max_bytes: int = MAX_BYTES,
    timeout: float = 30.0,
    deadline: float = 300.0,
    progress: ProgressCallback | None = None,
) -> None:
    """Fetches `url` into the file `destination`, which appears only whole and verified.

    The body streams into a temporary file beside `destination` that is renamed once its SHA-256
    is `sha256`. `timeout` (seconds) bounds each wait for the network, `deadline` the whole
    transfer, `max_bytes` the body. Raises `DownloadError`, also for addresses that are not HTTP.
    """
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"{url}: expected an http:// or https:// address")
    with contextlib.ExitStack() as cleanup:
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            part = cleanup.enter_context(
                tempfile.NamedTemporaryFile(
                    dir=destination.parent, prefix=f".{destination.name}.", delete=False
                )
            )
            cleanup.callback(Path(part.name).unlink, missing_ok=True)
            digest = _fetch(url, part, max_bytes, timeout, time.monotonic() + deadline, progress)
            part.flush()
            os.fsync(part.fileno())
            if digest != sha256:
                raise DownloadError(f"{url}: expected SHA-256 {sha256}, got {digest}")
            Path(part.name).chmod(0o644)
            Path(part.name).replace(destination)
        except urllib.error.HTTPError as error:
            error.close()
            raise DownloadError(f"{url}: the server answered {error.code} {error.reason}") from None
        except urllib.error.URLError as error:
            raise DownloadError(f"{url}: cannot be reached: {error.reason}") from error
        except TimeoutError as error:
            raise DownloadError(f"{url}: no answer within {timeout:g} s") from error
        except (http.client.HTTPException, ConnectionError) as error:
            raise DownloadError(f"{url}: the transfer broke off: {error!r}") from error
        except OSError as error:
            raise DownloadError(f"{destination}: cannot be written: {error}") from error


def has_sha256(path: Path, sha256: str) -> bool:
    """Whether `path` is a readable file of that SHA-256."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as content:
            while chunk := content.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError:
        return False
    return digest.hexdigest() == sha256


def _fetch(
    url: str,
    part: IO[bytes],
    max_bytes: int,
    timeout: float,
    ends_at: float,
    progress: ProgressCallback | None,
) -> str:
    digest = hashlib.sha256()
    received = 0
    with urllib.request.urlopen(url, timeout=timeout) as response:
        announced = response.length
        if announced is not None and announced > max_bytes:
            raise DownloadError(f"{url}: {announced} bytes announced, more than {max_bytes}")
        while chunk := response.read1(_CHUNK_BYTES):
            received += len(chunk)
            if received > max_bytes:
                raise DownloadError(f"{url}: sent more than {max_bytes} bytes")
            if time.monotonic() > ends_at:
                raise DownloadError(f"{url}: too slow: {received} bytes before the deadline")
            digest.update(chunk)
            part.write(chunk)
            if progress is not None:
                progress(received, announced)
    if announced is not None and received < announced:
        raise DownloadError(f"{url}: the transfer broke off: {received} of {announced} bytes")
    return digest.hexdigest()

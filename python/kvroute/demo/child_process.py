"""A `kvroute` command as a child process that cannot outlive its parent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any

_TAIL_BYTES = 16_384
_READ_BYTES = 65_536


def _child_environment() -> dict[str, str]:
    """Without `KVROUTE_...`, which would configure the child beside its arguments."""
    return {name: value for name, value in os.environ.items() if not name.startswith("KVROUTE_")}


class ChildError(RuntimeError):
    """A child did not start or ended early; the message ends with what it wrote last."""


class ChildProcess:
    """Runs `kvroute <arguments>` in a process group of its own until `stop`.

    The child prints one JSON line, `{"event": "ready", ...}`, when it serves; `ready` waits for
    it. Of all that it writes the last 16 KiB of each stream are kept. Where the system can
    (Linux), the kernel kills the child when this process dies, however it dies.

    Use as an async context manager, from one event loop.
    """

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        self.name = name
        self.arguments = tuple(arguments)
        self._process: asyncio.subprocess.Process | None = None
        self._first_line: asyncio.Future[bytes] | None = None
        self._tails: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self._readers: list[asyncio.Task[None]] = []

    @property
    def pid(self) -> int:
        """The child's process id, also that of its process group."""
        assert self._process is not None, "the child was not started"
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, None while it runs."""
        return None if self._process is None else self._process.returncode

    async def __aenter__(self) -> ChildProcess:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Starts the process; does not wait until it serves."""
        self._first_line = asyncio.get_running_loop().create_future()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "kvroute.demo.tethered",
            str(os.getpid()),
            *self.arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env=_child_environment(),
        )
        for name, stream in (("stdout", self._process.stdout), ("stderr", self._process.stderr)):
            assert stream is not None
            self._readers.append(asyncio.create_task(self._drain(name, stream)))

    async def ready(self, timeout: float) -> dict[str, Any]:
        """The child's ready line. Raises `ChildError` when it ends, or says anything else."""
        assert self._first_line is not None, "the child was not started"
        try:
            line = await asyncio.wait_for(asyncio.shield(self._first_line), timeout)
        except asyncio.TimeoutError:
            raise ChildError(self._complaint(f"was not ready within {timeout:g} s")) from None
        if not line:
            await self._wait_readers()
            raise ChildError(self._complaint(f"ended with status {await self._wait()}"))
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict) or message.get("event") != "ready":
            raise ChildError(self._complaint(f"printed no ready line but {line[:200]!r}"))
        return message

    async def exited(self) -> ChildError:
        """Waits until the child ends by itself, and gives the error that says so."""
        status = await self._wait()
        await self._wait_readers()
        return ChildError(self._complaint(f"ended with status {status}"))

    async def stop(self, grace: float = 5.0) -> None:
        """Ends the child and its group: SIGTERM, and SIGKILL after `grace` seconds."""
        process = self._process
        if process is None:
            return
        try:
            if process.returncode is None:
                self._signal(signal.SIGTERM)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(process.wait(), grace)
        finally:
            self._signal(signal.SIGKILL)
            for reader in self._readers:
                reader.cancel()
        await asyncio.wait_for(process.wait(), grace)
        await asyncio.gather(*self._readers, return_exceptions=True)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def _wait(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    async def _wait_readers(self) -> None:
        await asyncio.wait(self._readers, timeout=1.0)

    async def _drain(self, name: str, stream: asyncio.StreamReader) -> None:
        tail = self._tails[name]
        try:
            while data := await stream.read(_READ_BYTES):
                tail += data
                if name == "stdout":
                    self._look_for_first_line(tail)
                del tail[:-_TAIL_BYTES]
        finally:
            if name == "stdout":
                self._set_first_line(b"")

    def _look_for_first_line(self, written: bytearray) -> None:
        line, newline, _ = written.partition(b"\n")
        if newline or len(written) > _TAIL_BYTES:
            self._set_first_line(bytes(line))

    def _set_first_line(self, line: bytes) -> None:
        assert self._first_line is not None
        if not self._first_line.done():
            self._first_line.set_result(line)

    def _complaint(self, what: str) -> str:
        written = self._tails["stderr"] or self._tails["stdout"]
        lines = written.decode(errors="replace").strip().splitlines()[-15:]
        said = "\n  ".join(lines) if lines else "(it wrote nothing)"
        return f"{self.name} (kvroute {self.arguments[0]}) {what}:\n  {said}"

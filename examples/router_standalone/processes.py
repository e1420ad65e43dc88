"""Child processes of the example: engines and the router."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

_LIBC = ctypes.CDLL(None)  # looked up before any fork
_PR_SET_PDEATHSIG = 1
_MAX_LINE_BYTES = 2**20


class StartError(RuntimeError):
    """A child ended, or was not ready in time; the message names it."""


class ChildProcess:
    """One child, which ends when it is told to, and on Linux also when its parent dies."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process
        self._drain: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls, name: str, command: Sequence[str], env: Mapping[str, str] | None = None
    ) -> ChildProcess:
        """Starts `command`; its errors go where ours go, its output is read by `ready_line`."""
        process = await asyncio.create_subprocess_exec(
            *command,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            limit=_MAX_LINE_BYTES,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
        return cls(name, process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def ready_line(self, timeout: float) -> dict[str, Any]:
        """The JSON object with "event": "ready" that the child prints when it serves."""
        try:
            return await asyncio.wait_for(self._read_ready_line(), timeout)
        except asyncio.TimeoutError:
            raise StartError(f"{self.name}: not ready after {timeout:g} s") from None
        finally:
            self.discard_output()

    def discard_output(self) -> None:
        """Reads and drops whatever else the child prints, so that its pipe never fills."""
        if self._drain is None:
            self._drain = asyncio.create_task(self._read_to_end())

    async def stop(self, grace: float = 5.0) -> None:
        """Asks the child to end, and kills it after `grace` seconds. May be called again."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), grace)
            except asyncio.TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()
        if self._drain is not None:
            self._drain.cancel()

    async def _read_ready_line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if isinstance(message, dict) and message.get("event") == "ready":
                    return message
        code = await self._process.wait()
        raise StartError(f"{self.name}: ended with code {code} before it was ready")

    async def _read_to_end(self) -> None:
        assert self._process.stdout is not None
        while await self._process.stdout.read(65536):
            pass


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

"""A simulated engine in a process of its own, for tests and demos that must not share a loop."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Any

from kvroute.engines.errors import ProcessFailedError

_STOP_TIMEOUT = 3.0
_MAX_READY_LINE = 64 << 10


class SimulatedEngineProcess:
    """Starts ``kvroute mock`` and always ends it.

    ::

        with SimulatedEngineProcess(model="m", block_size=16, speed=10) as engine:
            engine.http_url, engine.kv_events, engine.kv_replay, engine.load_events, engine.pid

    Settings are the command's flags with underscores; a value of True is a flag by itself, None
    is left out. All sockets default to ports chosen by the system. The child's errors go to this
    process's stderr.

    Raises ProcessFailedError when it ends early or is not ready within ``ready_timeout`` seconds.
    """

    def __init__(self, *, ready_timeout: float = 20.0, **settings: Any) -> None:
        endpoints = dict.fromkeys(("kv_events", "kv_replay", "load_events"), "tcp://127.0.0.1:0")
        settings = {"port": 0, **endpoints, **settings}
        if settings["kv_events"] is None:
            settings["kv_replay"] = None
        self._arguments = _flags(settings)
        self._ready_timeout = ready_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self.ready: dict[str, Any] = {}

    @property
    def http_url(self) -> str:
        """Where its HTTP server is."""
        return str(self.ready["http"])

    @property
    def kv_events(self) -> str | None:
        """Endpoint of the KV event PUB socket."""
        return _text(self.ready["kv_events"])

    @property
    def kv_replay(self) -> str | None:
        """Endpoint of the replay ROUTER socket."""
        return _text(self.ready["kv_replay"])

    @property
    def load_events(self) -> str | None:
        """Endpoint of the load PUB socket."""
        return _text(self.ready["load_events"])

    @property
    def kv_transfer(self) -> dict[str, Any] | None:
        """Where its connector is found; None without one."""
        value = self.ready["kv_transfer"]
        return None if value is None else dict(value)

    @property
    def pid(self) -> int:
        """Its process id."""
        return int(self.ready["pid"])

    def start(self) -> None:
        """Start it and wait until it is ready."""
        command = [sys.executable, "-m", "kvroute", "mock", *self._arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        try:
            self.ready = self._read_ready_line(self._process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> int | None:
        """Ask it to end, kill it if it does not; its exit status, None if it never ran."""
        process = self._process
        if process is None:
            return None
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
        return process.returncode

    def kill(self) -> None:
        """End it without warning, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> SimulatedEngineProcess:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _read_ready_line(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        assert process.stdout is not None
        line = _read_line(process.stdout, self._ready_timeout)
        if not line.endswith(b"\n"):
            status = _status(process)
            how = "was not ready in time" if status is None else f"ended with status {status}"
            raise ProcessFailedError(f"kvroute mock {how}: {' '.join(self._arguments)}")
        ready = json.loads(line)
        if ready.get("event") != "ready":
            raise ProcessFailedError(f"kvroute mock said {ready!r} instead of that it is ready")
        return dict(ready)


def _read_line(stream: IO[bytes], timeout: float) -> bytes:
    """A line, or what there was of it when the time was over or the stream ended."""
    deadline = time.monotonic() + timeout
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not line.endswith(b"\n") and len(line) < _MAX_READY_LINE:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                break
            part = os.read(stream.fileno(), 4096)
            if not part:
                break
            line += part
    return line


def _status(process: subprocess.Popen[bytes]) -> int | None:
    """Exit status of a process that may be ending; None when it goes on."""
    try:
        return process.wait(0.5)
    except subprocess.TimeoutExpired:
        return None


def _flags(settings: dict[str, Any]) -> Sequence[str]:
    flags: list[str] = []
    for name, value in settings.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            flags.append(flag)
        elif value is not None and value is not False:
            flags += [flag, str(value)]
    return flags


def _text(value: Any) -> str | None:
    return None if value is None else str(value)

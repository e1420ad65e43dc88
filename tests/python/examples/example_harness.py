"""Runs `examples/router_standalone/api.py` as a process, and asks it questions."""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
STANDALONE = EXAMPLES / "router_standalone"
MODEL = "example-model"
BLOCK_SIZE = 64
START_SECONDS = 60.0


class StandaloneExample:
    """A running `api.py` with two simulated engines, and what its ready line says."""

    def __init__(self, arguments: Sequence[str] = ()) -> None:
        self._events_port, self._replay_port, self._metrics_port = contiguous_ports(3, 2)
        command = [sys.executable, "api.py", "--model", MODEL, "--engine", "simulated"]
        command += ["--speed", "20", "--http-port", "0", "--router-port", "0", *self.shared_flags()]
        self._process = start_process([*command, *arguments])
        ready = read_ready_line(self._process)
        self.pid: int = ready["pid"]
        self.url: str = ready["http"]
        self.router_url: str = ready["router"]["http"]
        self.router_pid: int = ready["router"]["pid"] or 0
        self.engine_urls: list[str] = [worker["http"] for worker in ready["workers"]]
        self.engine_pids: list[int] = [worker["pid"] for worker in ready["workers"]]

    def shared_flags(self) -> list[str]:
        """Flags that router.py takes too."""
        flags = ["--num-workers", "2", "--base-kv-events-port", str(self._events_port)]
        flags += ["--base-kv-replay-port", str(self._replay_port)]
        return [*flags, "--base-metrics-port", str(self._metrics_port)]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit status after a signal; fails if that takes long."""
        self._process.send_signal(number)
        self._reap()
        return self._process.returncode

    def kill(self) -> None:
        """Ends it without warning."""
        self._process.kill()
        self._reap()

    def _reap(self) -> None:
        try:
            self._process.wait(60)
        finally:
            self._process.kill()
            if self._process.stdout is not None:
                self._process.stdout.close()


def start_process(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Starts a command in the example's directory; its first line is for read_ready_line."""
    return subprocess.Popen(
        command, cwd=STANDALONE, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )


def read_ready_line(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What a process says of itself when it serves; kills one that says nothing in time."""
    assert process.stdout is not None
    watchdog = threading.Timer(START_SECONDS, process.kill)
    watchdog.start()
    try:
        line = process.stdout.readline()
    finally:
        watchdog.cancel()
    if not line:
        process.kill()
        raise AssertionError(f"{process.args!r} ended with {process.wait()} before it was ready")
    message: dict[str, Any] = json.loads(line)
    assert message["event"] == "ready"
    return message


def contiguous_ports(ranges: int, length: int) -> list[int]:
    """First ports of ranges in which every port is free, below those that the system hands out."""
    found: list[int] = []
    for base in random.sample(range(10_000, 32_000, length), 500):
        try:
            with ExitStack() as listeners:
                for port in range(base, base + length):
                    listeners.enter_context(socket.create_server(("127.0.0.1", port)))
        except OSError:
            continue
        found.append(base)
        if len(found) == ranges:
            return found
    raise AssertionError("found no free ports")


async def worker_states(http: aiohttp.ClientSession, router_url: str) -> list[dict[str, Any]]:
    """What the router knows of its workers."""
    async with http.get(f"{router_url}/workers") as response:
        assert response.status == 200
        states: list[dict[str, Any]] = await response.json()
        return states


async def held_blocks(http: aiohttp.ClientSession, router_url: str, worker_id: int) -> int:
    """How many blocks the router believes that worker to hold."""
    states = await worker_states(http, router_url)
    return int(states[worker_id]["held_blocks"])


async def running_requests(http: aiohttp.ClientSession, engine_urls: Sequence[str]) -> float:
    """How many requests the engines say they run or keep waiting, all together."""
    total = 0.0
    for url in engine_urls:
        async with http.get(f"{url}/metrics") as response:
            text = await response.text()
        gauges = re.findall(r"^vllm:num_requests_(?:running|waiting)\{.*\} (\S+)$", text, re.M)
        assert len(gauges) == 2, text
        total += sum(map(float, gauges))
    return total


async def eventually(
    condition: Callable[[], Awaitable[bool]], timeout: float = 60.0, what: str = "condition"
) -> None:
    """Polls until the condition holds; AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not await condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout:g} s"
        await asyncio.sleep(0.01)


def running_process(pid: int) -> bool:
    """Whether the process is there and has not ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False

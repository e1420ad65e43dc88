"""How much CPU processes used, to tell whether a measurement was bound by it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessorUse:
    """Shares of all cores over some wall time, 0 to 1, by process; `machine` counts everybody's.

    Empty, and `machine` None, where the system has no /proc.
    """

    cores: int
    shares: dict[str, float]
    machine: float | None


class ProcessorMeter:
    """Measures from its making to `read`."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._started = time.perf_counter()
        self._before = {name: _seconds_of(pid) for name, pid in self._pids.items()}
        self._machine_before = _machine_ticks()

    def read(self) -> ProcessorUse:
        """The use since the meter was made; a process that has ended is left out."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        available = (time.perf_counter() - self._started) * cores
        shares = {}
        for name, pid in self._pids.items():
            before, now = self._before[name], _seconds_of(pid)
            if before is not None and now is not None and available > 0:
                shares[name] = (now - before) / available
        return ProcessorUse(cores, shares, self._machine_share())

    def _machine_share(self) -> float | None:
        now = _machine_ticks()
        if now is None or self._machine_before is None:
            return None
        busy, total = now[0] - self._machine_before[0], now[1] - self._machine_before[1]
        return busy / total if total else None


def _seconds_of(pid: int) -> float | None:
    """User and system time of a process, proc(5): fields 14 and 15 of /proc/PID/stat."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _machine_ticks() -> tuple[int, int] | None:
    """Busy and all ticks of all cores since boot, proc(5): the first line of /proc/stat."""
    try:
        with Path("/proc/stat").open() as lines:
            ticks = [int(value) for value in lines.readline().split()[1:9]]
    except OSError:
        return None
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, sum(ticks)

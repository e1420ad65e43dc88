"""Finds the conversation trace: a given file, a folder, the download, or else a generated one."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kvroute.traces.generated import generate_trace
from kvroute.traces.reader import read_trace
from kvroute.traces.request import TraceError, TraceRequest

CONVERSATION_TRACE = "conversation_trace.jsonl"
TRACES_VARIABLE = "KVROUTE_TRACES"


class TraceSource(enum.Enum):
    """Where a trace came from; the value says it in words."""

    GIVEN = "given file"
    ENVIRONMENT = f"file in ${TRACES_VARIABLE}"
    DOWNLOADED = "downloaded file"
    GENERATED = "generated, of the conversation trace's statistics"


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests and their origin. `path` is None, and `seed` is set, where they are generated."""

    requests: list[TraceRequest]
    source: TraceSource
    path: Path | None = None
    seed: int | None = None

    def __str__(self) -> str:
        if self.path is None:
            return f"{self.source.value} (seed {self.seed})"
        return f"{self.path} ({self.source.value})"


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where `kvroute traces download` puts files: `$XDG_CACHE_HOME/kvroute/traces`.

    Without an absolute `XDG_CACHE_HOME` it is `~/.cache/kvroute/traces` (XDG base directories).
    """
    configured = environment.get("XDG_CACHE_HOME", "")
    base = Path(configured) if Path(configured).is_absolute() else Path.home() / ".cache"
    return base / "kvroute" / "traces"


def find_trace(
    path: Path | None = None, environment: Mapping[str, str] = os.environ
) -> tuple[TraceSource, Path | None]:
    """Where the conversation trace is; `(GENERATED, None)` where it is nowhere.

    In this order: `path`, the folder named by `KVROUTE_TRACES`, the download. A `path` that is not
    a file is a `TraceError`, and so is a `KVROUTE_TRACES` that is set but is no folder; a folder
    without the trace is passed over.
    """
    if path is not None:
        if not path.is_file():
            raise TraceError(f"{path}: no such file")
        return TraceSource.GIVEN, path
    folder = environment.get(TRACES_VARIABLE)
    if folder:
        if not Path(folder).is_dir():
            raise TraceError(f"{TRACES_VARIABLE}: expected a folder, got {folder!r}")
        candidate = Path(folder) / CONVERSATION_TRACE
        if candidate.is_file():
            return TraceSource.ENVIRONMENT, candidate
    candidate = cache_folder(environment) / CONVERSATION_TRACE
    if candidate.is_file():
        return TraceSource.DOWNLOADED, candidate
    return TraceSource.GENERATED, None


def load_trace(
    path: Path | None = None,
    *,
    limit: int,
    seed: int = 0,
    environment: Mapping[str, str] = os.environ,
) -> Trace:
    """The first `limit` requests of the trace that `find_trace` finds, or generates from `seed`."""
    if limit < 1:
        raise ValueError(f"limit: expected at least 1, got {limit}")
    source, found = find_trace(path, environment)
    if found is None:
        return Trace(generate_trace(limit, seed), source, seed=seed)
    return Trace(read_trace(found, limit), source, path=found)

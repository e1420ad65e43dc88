"""The failure matrix: what a client gets when a leg fails, and its table in the documentation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from disagg_harness import CONNECTORS, PROMPT, Deployment, deployment, reason_of, text_of
from kvroute.engines.transfer.faults import Faults

SIZES = {"1P1D": (1, 1), "2P4D": (2, 4)}
PATIENCE = 20.0
"""Seconds that the frontend gives a leg: no stall of the machine is taken for a failure."""

_SETTLED = 20.0
_PATH = "/v1/completions"
_BODY: dict[str, Any] = {"prompt": PROMPT, "max_tokens": 8}
_MARKS = ("<!-- matrix -->\n", "<!-- end of the matrix -->\n")
_K = TypeVar("_K")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Column:
    """A deployment of the matrix."""

    connector: str
    size: str
    stream: bool


@dataclass(frozen=True)
class Row:
    """A failure: `action` at `step` of the engines with a role, the first time or every time."""

    role: str
    step: str
    action: str
    often: str = "once"

    @property
    def is_silent(self) -> bool:
        """Somebody waits for what never comes."""
        return self.action == "hang" or self.step in ("transfer", "notice")

    def __str__(self) -> str:
        return f"{self.role} {self.step}, {self.action}, {self.often}"


COLUMNS = [
    Column(connector, size, stream)
    for connector in CONNECTORS
    for size in SIZES
    for stream in (False, True)
]
PREFILL_STEPS = ("accepted", "prefill", "hold", "answer")
DECODE_STEPS = ("accepted", "decode_start", "decode_midway")
STEPS = [
    *(("prefill", step) for step in PREFILL_STEPS),
    *(("either", step) for step in ("transfer", "notice")),
    *(("decode", step) for step in DECODE_STEPS),
]
ROWS = [
    *(
        Row(role, step, action, often)
        for role, step in STEPS
        for action in ("error500", "close", "hang")
        for often in ("once", "always")
        if (action, often) != ("hang", "always")  # each one takes a leg's whole time
    ),
    *(Row("prefill", "answer", "malformed", often) for often in ("once", "always")),
]


class Cell:
    """One deployment, whose engines of a role share their faults: whichever is reached first."""

    def __init__(self, fleet: Deployment, stream: bool) -> None:
        self.fleet = fleet
        self.stream = stream
        self._wanted: Any = None
        self.pools = {"prefill": fleet.prefill, "decode": fleet.decode}
        for engines in self.pools.values():
            shared = engines[0].core.transfers.faults
            for engine in engines[1:]:
                engine.core.transfers.faults._faults = shared._faults

    async def outcome(self, row: Row) -> str:
        """What the client got: "content" (one engine's), "error STATUS", "error event"; "-" where
        the protocol has no such step. AssertionError for anything else."""
        count = 1 if row.often == "once" else 1000
        faults = self._set(row.role, row.step, row.action, count)
        try:
            found = await self.ask()
            is_met = any(_count(one) < count for one in faults)
        finally:
            for one in faults:
                one.clear()
        await self.fleet.settled(_SETTLED, expire=True)
        return found if is_met else "-"

    async def ask(self) -> str:
        """The same without a failure."""
        if self._wanted is None:
            self._wanted = await self.fleet.single_answer(_PATH, **_BODY, stream=self.stream)
        wanted = self._wanted
        if not self.stream:
            status, answer, _ = await self.fleet.ask(_PATH, **_BODY)
            if status != 200:
                return _error(status, answer)
            _same(answer, wanted)
            for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
                assert answer["usage"][name] == wanted["usage"][name], answer["usage"]
            return "content"
        status, events, done = await self.fleet.stream(_PATH, **_BODY)
        if status != 200:
            return _error(status, events[0])
        *before, last = events
        if "error" in last:
            _error(500, last)
            assert text_of(wanted).startswith(text_of(before))
            assert not any("error" in event for event in before)
            return "error event"
        assert done, events
        _same(events, wanted)
        return "content"

    async def leave_at(self, role: str, step: str) -> bool:
        """The client leaves while an engine is at the step; whether any came there."""
        faults = self._set(role, step, "hang", 1)
        asking = asyncio.ensure_future(self.ask())
        while not asking.done() and all(map(_count, faults)):  # noqa: ASYNC110 - engines tell nobody
            await asyncio.sleep(0.005)
        came = not all(map(_count, faults))
        if came:
            asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        for one in faults:
            one.clear()
        await self.fleet.settled(_SETTLED, expire=True)
        return came

    def _set(self, role: str, step: str, action: str, count: int) -> list[Faults]:
        pools = [role] if role in self.pools else list(self.pools)
        found = [self.pools[pool][0].core.transfers.faults for pool in pools]
        for faults in found:
            faults.set({"step": step, "action": action, "count": count})
        return found


async def at_all(asked: Mapping[Column, Awaitable[_T]]) -> dict[Column, _T]:
    """All results; AssertionError naming every column that failed."""
    found = dict(
        zip(asked, await asyncio.gather(*asked.values(), return_exceptions=True), strict=True)
    )
    broken = [f"{key}: {one!r}" for key, one in found.items() if isinstance(one, BaseException)]
    assert not broken, "\n".join(broken)
    return {key: one for key, one in found.items() if not isinstance(one, BaseException)}


def _count(faults: Faults) -> int:
    return sum(fault["count"] for fault in faults.pending())


def _error(status: int, answer: Mapping[str, Any]) -> str:
    assert status >= 400, status
    assert answer["error"]["message"], answer
    return f"error {status}"


def _same(answer: Any, wanted: Any) -> None:
    assert text_of(answer) == text_of(wanted)
    assert reason_of(answer) == reason_of(wanted)


@asynccontextmanager
async def together(
    contexts: Mapping[_K, AbstractAsyncContextManager[_T]],
) -> AsyncIterator[dict[_K, _T]]:
    """All of them entered, and left, at once."""
    made = await asyncio.gather(
        *(context.__aenter__() for context in contexts.values()), return_exceptions=True
    )
    entered = {
        key: one
        for key, one in zip(contexts, made, strict=True)
        if not isinstance(one, BaseException)
    }
    try:
        if len(entered) < len(contexts):
            raise next(one for one in made if isinstance(one, BaseException))
        yield entered
    finally:
        await asyncio.gather(*(contexts[key].__aexit__(None, None, None) for key in entered))


@asynccontextmanager
async def all_cells(folder: Path) -> AsyncIterator[dict[Column, Cell]]:
    """A deployment for each column."""
    contexts = {}
    for number, column in enumerate(COLUMNS):
        own = folder / str(number)
        own.mkdir()
        contexts[column] = deployment(
            column.connector,
            *SIZES[column.size],
            own,
            engines={
                "rendezvous_timeout": 2 * PATIENCE,
                "transfer_expiry": 2 * PATIENCE,
                "kv_events": None,  # nothing here needs them, and they need many sockets
                "load_events": None,
            },
            prefill_timeout_seconds=PATIENCE,
            **({"transfer_timeout_seconds": PATIENCE} if column.connector == "lmcache" else {}),
            backend_read_timeout_seconds=1.5 * PATIENCE,  # which of both ends is no race
            backend_cooldown_seconds=0,
        )
    async with together(contexts) as fleets:
        cells = {column: Cell(fleet, column.stream) for column, fleet in fleets.items()}
        for cell in cells.values():
            assert await cell.ask() == "content"
        yield cells


def table(lines: Iterable[str]) -> str:
    """In Markdown: a line for each failure, where it has one, and a column for each connector."""
    shown = [
        f"| leg | step | failure | how often | {' | '.join(CONNECTORS)} |",
        f"| --- | --- | --- | --- |{' --- |' * len(CONNECTORS)}",
    ]
    return "\n".join([*shown, *filter(None, lines)]) + "\n"


def line(row: Row, outcomes: Mapping[Column, str]) -> str:
    """One failure's line of the table; empty where no protocol has the step."""
    found = [_summary(outcomes, connector) for connector in CONNECTORS]
    if set(found) == {"-"}:
        return ""
    return _beginning(row) + " | ".join(found) + " |"


def _beginning(row: Row) -> str:
    return f"| {row.role} | `{row.step}` | `{row.action}` | {row.often} | "


def _summary(outcomes: Mapping[Column, str], connector: str) -> str:
    """Of one failure under one connector; said once where sizes or streaming do not matter."""
    sizes = {
        size: _by_kind([outcomes[Column(connector, size, stream)] for stream in (False, True)])
        for size in SIZES
    }
    if len(set(sizes.values())) == 1:
        return next(iter(sizes.values()))
    return "; ".join(f"{size}: {found}" for size, found in sizes.items())


def _by_kind(found: Iterable[str]) -> str:
    whole, stream = found
    return whole if whole == stream else f"{whole}, streamed {stream}"


def documented(text: str) -> str:
    """The table in a page."""
    return text.split(_MARKS[0])[1].split(_MARKS[1])[0].strip("\n") + "\n"


def documented_line(text: str, row: Row) -> str:
    """The table's line of a failure in a page; empty where it has none."""
    found = [one for one in documented(text).splitlines() if one.startswith(_beginning(row))]
    return "\n".join(found)


def with_table(text: str, shown: str) -> str:
    """The page with another table."""
    before, rest = text.split(_MARKS[0])
    return f"{before}{_MARKS[0]}\n{shown}\n{_MARKS[1]}{rest.split(_MARKS[1])[1]}"

"""Two legs that come at once and in any order, and find each other by a name."""

from __future__ import annotations

import asyncio

from kvroute import deadline


class Meeting:
    """One name's legs.

    Attributes:
        has_prefill: the prefill leg is here.
        joined: set when the decode engine has come.
        settled: set when the prompt is computed, or will never be (`failure` says why).
        ended: set when the decode engine has its blocks, or has gone without (`failure`).
    """

    __slots__ = ("ended", "failure", "has_prefill", "joined", "name", "settled", "users")

    def __init__(self, name: str) -> None:
        self.name = name
        self.users = 0
        self.has_prefill = False
        self.joined = asyncio.Event()
        self.settled = asyncio.Event()
        self.ended = asyncio.Event()
        self.failure: str | None = None

    def fail(self, why: str) -> None:
        """It comes to nothing; whoever waits hears of it. The first reason stays."""
        if self.failure is None:
            self.failure = why
        self.joined.set()
        self.settled.set()
        self.ended.set()


class Meetings:
    """The meetings that somebody is at; forgotten when the last one leaves."""

    def __init__(self) -> None:
        self._meetings: dict[str, Meeting] = {}

    def __len__(self) -> int:
        return len(self._meetings)

    def get(self, name: str) -> Meeting | None:
        """The meeting of this name, if anybody is at it."""
        return self._meetings.get(name)

    def enter(self, name: str) -> Meeting:
        """Come to a meeting; `leave` it once."""
        meeting = self._meetings.get(name)
        if meeting is None:
            meeting = self._meetings[name] = Meeting(name)
        meeting.users += 1
        return meeting

    def leave(self, meeting: Meeting) -> None:
        """Go away."""
        meeting.users -= 1
        if not meeting.users:
            del self._meetings[meeting.name]


async def within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event came in time."""
    try:
        await deadline.within(seconds, event.wait())
    except asyncio.TimeoutError:
        return False
    return True

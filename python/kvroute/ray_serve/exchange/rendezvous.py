"""Where the exchanges of one deployment find each other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

EXPIRY_S = 10.0  # without a call, after which a member is no longer listed
MAX_MEMBERS = 1024


class Member(NamedTuple):
    """An exchange, and where it listens. `name` is new each time that one is started."""

    name: str
    host: str
    port: int


class Meeting(NamedTuple):
    """The secret that members know each other by, and who is there, the caller included."""

    secret: bytes
    members: list[Member]


class Rendezvous(Protocol):
    """Called from a thread of the exchange's own; may block for some seconds, may raise anything,
    and is then called again later. What is connected stays connected meanwhile."""

    def host(self) -> str:
        """This machine's address, as the other members reach it."""

    def meet(self, member: Member, secret: bytes) -> Meeting:
        """Lists the member, for EXPIRY_S or until the next call. The first secret that any member
        brings is everybody's; each brings the one that it knows, so that a rendezvous which lost
        its memory goes on with the same."""

    def leave(self, name: str) -> None:
        """The member ends. Does not wait for that."""

    def close(self) -> None:
        """From another thread: a call that waits gives up. Only `leave` comes after it."""


class MemberTable:
    """Who is there. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._secret: bytes | None = None
        self._members: dict[str, tuple[float, Member]] = {}  # with the time of the last call

    def meet(self, member: Member, secret: bytes) -> Meeting:
        """As Rendezvous. ValueError: MAX_MEMBERS others are there."""
        now = self._clock()
        with self._lock:
            self._members = {
                name: (called_at, other)
                for name, (called_at, other) in self._members.items()
                if called_at > now - EXPIRY_S
            }
            if member.name not in self._members and len(self._members) >= MAX_MEMBERS:
                raise ValueError(f"members: expected at most {MAX_MEMBERS}")
            self._members[member.name] = (now, member)
            if self._secret is None:
                self._secret = secret
            return Meeting(self._secret, [other for _, other in self._members.values()])

    def leave(self, name: str) -> None:
        with self._lock:
            self._members.pop(name, None)


class LocalRendezvous:
    """For exchanges of one process, or of processes that reach one such object by a proxy."""

    def __init__(self) -> None:
        self._table = MemberTable()

    def host(self) -> str:
        return "127.0.0.1"

    def meet(self, member: Member, secret: bytes) -> Meeting:
        return self._table.meet(member, secret)

    def leave(self, name: str) -> None:
        self._table.leave(name)

    def close(self) -> None:
        """Nothing waits here."""

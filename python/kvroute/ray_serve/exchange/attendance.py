"""Keeps a member listed at the rendezvous."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from kvroute.ray_serve.exchange.limits import ExchangeLimits
from kvroute.ray_serve.exchange.rendezvous import Meeting, Member, Rendezvous
from kvroute.ray_serve.exchange.tally import Tally
from kvroute.ray_serve.exchange.wire import SECRET_BYTES


class Attendance:
    """A daemon thread of its own calls the rendezvous, which may block: nothing else waits for it.

    secret: what members know each other by, the own one until the rendezvous has told another.
    """

    def __init__(
        self,
        rendezvous: Rendezvous,
        met: Callable[[Meeting], None],
        limits: ExchangeLimits,
        tally: Tally,
    ) -> None:
        """`met` is called in that thread, for each meeting."""
        self.secret = os.urandom(SECRET_BYTES)
        self._rendezvous = rendezvous
        self._met = met
        self._limits = limits
        self._tally = tally
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, member: Member) -> None:
        self._thread = threading.Thread(
            target=self._run, args=(member,), name="kvroute-rendezvous", daemon=True
        )
        self._thread.start()

    def end(self) -> None:
        """The member leaves; does not wait for that."""
        self._ending.set()
        self._rendezvous.close()

    def join(self, timeout_s: float) -> None:
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self, member: Member) -> None:
        while not self._ending.is_set():
            self._meet(member)
            self._ending.wait(self._limits.heartbeat_s)
        try:
            self._rendezvous.leave(member.name)
        except Exception:  # as below; it is forgotten there in a while
            self._tally.rendezvous_failures += 1

    def _meet(self, member: Member) -> None:
        try:
            meeting = self._rendezvous.meet(member, self.secret)
        except Exception as error:  # whatever it is made of may be gone, and come back
            if self._ending.is_set():
                return
            self._tally.rendezvous_failures += 1
            self._tally.log_once("rendezvous", "The rendezvous of routers fails: %r", error)
            return
        self.secret = meeting.secret
        self._met(meeting)

"""What an exchange does in its thread's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os

from kvroute.ray_serve.exchange import wire
from kvroute.ray_serve.exchange.attendance import Attendance
from kvroute.ray_serve.exchange.limits import ExchangeLimits
from kvroute.ray_serve.exchange.link import Link
from kvroute.ray_serve.exchange.listener import Listener
from kvroute.ray_serve.exchange.outbox import Outbox
from kvroute.ray_serve.exchange.remote_bookings import RemoteBookings, Router
from kvroute.ray_serve.exchange.rendezvous import Meeting, Member, Rendezvous
from kvroute.ray_serve.exchange.tally import Tally

_TICK_S = 0.1
_LINGER_S = 1.0


class ExchangeLoop:
    """Listens, connects to all members, and brings own bookings out and theirs in.

    `wake`, `worker_registered` and `end` may be called from any thread, and `asleep` be read there:
    while it is true nobody looks at the outbox. They raise RuntimeError when the loop is closed.
    To be made in the running loop.
    """

    def __init__(
        self,
        outbox: Outbox,
        router: Router,
        rendezvous: Rendezvous,
        interval_s: float,
        limits: ExchangeLimits,
        tally: Tally,
    ) -> None:
        self.asleep = False
        self._outbox = outbox
        self._block_size = router.block_size
        self._interval_s = interval_s
        self._limits = limits
        self._tally = tally
        self._name = os.urandom(wire.MEMBER_BYTES).hex()
        self._me: Member | None = None
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._ending = asyncio.Event()
        self._links: dict[str, tuple[Link, asyncio.Task[None]]] = {}
        self._rendezvous = rendezvous
        self._attendance = Attendance(rendezvous, self._met_elsewhere, limits, tally)
        self.remote = RemoteBookings(router, limits, tally)
        self.listener = Listener(
            self._name,
            self._block_size,
            lambda: self._attendance.secret,
            self.remote,
            self._met,
            limits,
            tally,
        )

    def wake(self) -> None:
        self.asleep = False
        self._loop.call_soon_threadsafe(self._woken.set)

    def worker_registered(self, worker: str) -> None:
        self._loop.call_soon_threadsafe(self.remote.worker_registered, worker)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)

    def join(self, timeout_s: float) -> None:
        """Waits until the rendezvous is left, too."""
        self._attendance.join(timeout_s)

    @property
    def links(self) -> int:
        """Peers that this process is connected to."""
        return sum(link.connected for link, _ in list(self._links.values()))

    async def run(self, host: str | None) -> None:
        """Until `end`. Raises what is a mistake of this package's alone."""
        working = asyncio.create_task(self._work(host))
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait({ending, working}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            self._attendance.end()
            working.cancel()
            for link, _ in self._links.values():
                link.end()
            self.listener.close()
            self.remote.close()
            await asyncio.sleep(0)  # what is written is sent

    async def _work(self, host: str | None) -> None:
        await asyncio.gather(self._join_others(host), self._send(), self._tick())

    async def _join_others(self, host: str | None) -> None:
        backoff = self._limits.backoff_s
        while self._me is None:
            try:
                address = self._rendezvous.host() if host is None else host
                self._me = Member(self._name, address, await self.listener.start(address))
            except Exception as error:  # the rendezvous may be gone, the address another machine's
                self._tally.log_once("listen", "No exchange of bookings yet: %r", error)
                await asyncio.sleep(backoff)
                backoff = min(2 * backoff, self._limits.max_backoff_s)
        self._attendance.start(self._me)

    async def _send(self) -> None:
        """A batch every `interval_s`, while there are some; also while nobody hears it, so that no
        calls pile up. Waking this thread would hold up who calls; so it goes on looking for a
        while, and only the first call after a pause does."""
        called_at = self._loop.time()
        while True:
            if self._outbox.waiting:
                called_at = self._loop.time()
                self._broadcast(self._outbox.drain())
            elif self._loop.time() - called_at > _LINGER_S:
                await self._sleep()
                continue
            await asyncio.sleep(self._interval_s)

    async def _sleep(self) -> None:
        self._woken.clear()
        self.asleep = True
        if self._outbox.waiting == 0:
            await self._woken.wait()
        self.asleep = False

    def _broadcast(self, operations: list[bytes]) -> None:
        links = [link for link, _ in self._links.values() if link.connected]
        if not operations or not links:
            return
        messages = list(wire.batches(operations))
        for link in links:
            link.send(messages)
        self._tally.sent_batches += len(messages)
        self._tally.sent_operations += len(operations)

    async def _tick(self) -> None:
        next_beat = 0.0
        while True:
            self.remote.tick()
            now = self._loop.time()
            if now >= next_beat:
                next_beat = now + self._limits.beat_s
                self._broadcast(self._outbox.expire())
                self.listener.beat(now)
                for link, _ in self._links.values():
                    link.beat(now)
            await asyncio.sleep(_TICK_S)

    def _met_elsewhere(self, meeting: Meeting) -> None:
        def meet_all() -> None:
            for member in meeting.members:
                self._met(member)

        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(meet_all)

    def _met(self, member: Member) -> None:
        """A member was listed, or has come itself: it gets what is booked here."""
        if member.name == self._name or self._ending.is_set():
            return
        known = self._links.get(member.name)
        if known is not None:
            known[0].listed()
        elif len(self._links) >= self._limits.max_peers:
            self._tally.unmet += 1
            self._tally.log_once(
                "unmet", "More than %d peers: some do not hear of bookings", self._limits.max_peers
            )
        else:
            link = Link(member, self._hello, self._outbox, self._limits, self._tally)
            task = asyncio.create_task(link.run())
            task.add_done_callback(lambda _: self._links.pop(member.name, None))
            self._links[member.name] = (link, task)

    def _hello(self, to: Member) -> bytes:
        assert self._me is not None  # links are made after it
        proof = wire.proof_of(self._attendance.secret, self._name, to.name)
        return wire.hello(
            wire.Hello(self._name, self._me.host, self._me.port, self._block_size, proof)
        )

"""A connection that this process makes to one peer, and what goes over it: own bookings."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable, Iterable

from kvroute.ray_serve.exchange import wire
from kvroute.ray_serve.exchange.frames import BROKEN, receive
from kvroute.ray_serve.exchange.limits import ExchangeLimits
from kvroute.ray_serve.exchange.operations import WireError
from kvroute.ray_serve.exchange.outbox import Outbox
from kvroute.ray_serve.exchange.rendezvous import Member
from kvroute.ray_serve.exchange.tally import Tally

_SNAPSHOT_SHARE = 0.25  # of max_queue_bytes: the rest is for what changes meanwhile


class Link:
    """Keeps itself connected while the peer is listed. For one event loop alone."""

    def __init__(
        self,
        member: Member,
        hello: Callable[[Member], bytes],
        outbox: Outbox,
        limits: ExchangeLimits,
        tally: Tally,
    ) -> None:
        """`hello` gives what is sent first."""
        self.member = member
        self._hello = hello
        self._outbox = outbox
        self._limits = limits
        self._tally = tally
        self._listed_at = asyncio.get_running_loop().time()
        self._transport: asyncio.WriteTransport | None = None  # while the peer gets what changes
        self._heard_at = 0.0

    @property
    def connected(self) -> bool:
        return self._transport is not None

    def listed(self) -> None:
        """The peer was seen at the rendezvous, or came here itself."""
        self._listed_at = asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Connects, and again whenever it breaks. Ends when the peer has not been listed for
        `forget_s` and is not connected."""
        loop = asyncio.get_running_loop()
        backoff = self._limits.backoff_s
        while self._is_wanted():
            began = loop.time()
            try:
                await self._connect_and_speak()
            except (*BROKEN, ValueError):  # ValueError: no name of a host
                if loop.time() - began > self._limits.silence_s:
                    backoff = self._limits.backoff_s  # it held for a while
            if self._is_wanted():
                await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
            backoff = min(2 * backoff, self._limits.max_backoff_s)

    def send(self, messages: Iterable[bytes]) -> None:
        """Does nothing where the peer is not connected: a snapshot brings it up to date."""
        transport = self._transport
        if transport is None:
            return
        if transport.get_write_buffer_size() > self._limits.max_queue_bytes:
            self._tally.resyncs += 1
            self._tally.log_once("slow", "A peer reads bookings too slowly; it begins anew")
            self._drop()
            return
        for message in messages:
            transport.write(message)
            self._tally.sent_bytes += len(message)

    def beat(self, now: float) -> None:
        """Tells the peer that this side lives, and gives up one that is silent. To be called every
        `beat_s`."""
        if self._transport is not None:
            if now - self._heard_at > self._limits.silence_s:
                self._drop()
            else:
                self.send((wire.BEAT,))

    def end(self) -> None:
        """Tells the peer that this process's bookings end, and lets `run` end: its cancellation
        alone may be lost in asyncio.wait_for."""
        self._listed_at = -math.inf
        if self._transport is not None:
            self.send((wire.BYE,))
            self._transport.close()
            self._transport = None

    def _is_wanted(self) -> bool:
        silent = asyncio.get_running_loop().time() - self._listed_at
        return silent < self._limits.forget_s

    def _drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    async def _connect_and_speak(self) -> None:
        """Returns never; raises what breaks the connection."""
        limits = self._limits
        try:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(self.member.host, self.member.port), limits.connect_s
            )
        except BROKEN:
            self._tally.failed_connects += 1
            raise
        try:
            writer.write(self._hello(self.member))  # TCP_NODELAY is asyncio's own default
            await self._hear(reader, limits.connect_s)
            self._tally.connects += 1
            self._transport = writer.transport
            await asyncio.gather(self._speak(writer), self._listen(reader))
        finally:
            self._transport = None
            writer.transport.abort()

    async def _speak(self, writer: asyncio.StreamWriter) -> None:
        """The snapshot, no faster than the peer reads it. What changes meanwhile goes beside it:
        what the peer does not know yet it passes over, and what is told here is told as it stands
        by then."""
        ids = deque(self._outbox.live)
        while ids:
            for message in wire.batches(self._next_states(ids)):
                writer.write(message)
                self._tally.sent_bytes += len(message)
            await asyncio.wait_for(writer.drain(), self._limits.silence_s)
        writer.write(wire.SNAPSHOT_END)

    def _next_states(self, ids: deque[int]) -> list[bytes]:
        """Takes as many as are written before it waits for the peer; none is kept over that."""
        states: list[bytes] = []
        room = _SNAPSHOT_SHARE * self._limits.max_queue_bytes
        while ids and room > 0:
            state = self._outbox.state(ids.popleft())
            if state is not None:
                states.append(state)
                room -= len(state)
        return states

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while True:
            await self._hear(reader, None)

    async def _hear(self, reader: asyncio.StreamReader, timeout: float | None) -> None:
        message, _ = await asyncio.wait_for(receive(reader, wire.MAX_HELLO_BYTES), timeout)
        if not isinstance(message, wire.Beat):
            raise WireError("expected a beat")
        self._heard_at = asyncio.get_running_loop().time()

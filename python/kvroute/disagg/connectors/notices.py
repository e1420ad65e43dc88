"""LMCache's notices that a prompt's KV cache has arrived at the decoder, received over ZMQ.

Source of the format: LMCache, lmcache/v1/storage_backend/pd_backend.py. Each tensor-parallel rank
of the prefill engine has a PUSH socket connected to the proxy's PULL socket and sends one msgpack
map, ``{"type": "ProxyNotif", "req_id": "…"}``, when its last chunk is written. It names no rank.
"PDMsg", the name of the union of messages there, is taken for the same.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

import msgpack  # type: ignore[import-untyped] # it has none

from kvroute.disagg.connector import HandoffError
from kvroute.disagg.connectors.zmq_binding import ZmqBinding

_TYPES = ("ProxyNotif", "PDMsg")
_REMEMBERED = 4096


@dataclass(slots=True)
class NoticeCounts:
    """What became of all notices. `late`: of a handoff that is over; `surplus`: more than ranks;
    `unknown`: of no handoff; `malformed`: not a notice."""

    taken: int = 0
    surplus: int = 0
    late: int = 0
    unknown: int = 0
    malformed: int = 0


@dataclass(slots=True)
class _Wait:
    missing: int
    arrived: asyncio.Event = field(default_factory=asyncio.Event)


class Notices:
    """Counts notices for the handoffs that expect some, and forgets all others. One event loop's.

    Memory is bounded by the handoffs under way: nothing is kept for a request that is not expected.

    Args:
        host, port: as `ZmqBinding` takes them.
    """

    def __init__(self, host: str, port: int) -> None:
        self.counts = NoticeCounts()
        self._waits: dict[str, _Wait] = {}
        self._over: OrderedDict[str, None] = OrderedDict()
        self._binding = ZmqBinding("PULL", host, port, self._frames, "proxy_host, proxy_port")

    @property
    def endpoint(self) -> str:
        """What is bound, such as "tcp://127.0.0.1:8500"; "" before `open`."""
        return self._binding.endpoint

    @property
    def expected(self) -> int:
        """Handoffs under way."""
        return len(self._waits)

    async def open(self) -> None:
        """Binds and begins to read. Raises OSError naming the address."""
        await self._binding.open()

    async def close(self) -> None:
        """Stops; whoever waits gets HandoffError. Idempotent."""
        await self._binding.close()
        waits, self._waits = self._waits, {}
        for wait in waits.values():
            wait.arrived.set()

    def expect(self, req_id: str, count: int) -> None:
        """Begins to count a handoff's notices; call it before the prefill leg is sent."""
        if req_id in self._waits:
            raise ValueError(f"req_id: expected a new one, got {req_id!r} again")
        self._waits[req_id] = _Wait(count)

    def forget(self, req_id: str) -> None:
        """Ends a handoff; its notices are late from now on. Idempotent."""
        if self._waits.pop(req_id, None) is not None:
            self._over[req_id] = None
            if len(self._over) > _REMEMBERED:
                self._over.popitem(last=False)

    async def wait(self, req_id: str, timeout: float) -> None:
        """Returns when all of a handoff's notices have come. Raises HandoffError after `timeout`
        seconds (`timed_out`), or when this is closed or the handoff is not expected."""
        wait = self._waits.get(req_id)
        if wait is None:
            raise HandoffError(f"lmcache: no notice is expected of handoff {req_id}")
        try:
            await asyncio.wait_for(wait.arrived.wait(), timeout)
        except asyncio.TimeoutError:
            raise HandoffError(
                f"lmcache: {wait.missing} of the prefill engine's ranks sent no notice that the "
                f"transfer is done within {timeout:g} s",
                timed_out=True,
            ) from None
        if wait.missing > 0:
            raise HandoffError("lmcache: closed while waiting for the transfer's notice")

    def _frames(self, frames: list[bytes], _address: str) -> None:
        self.take(frames[0] if len(frames) == 1 else b"")

    def take(self, message: bytes) -> None:
        """Counts one message. Never raises."""
        req_id = _req_id(message)
        if req_id is None:
            self.counts.malformed += 1
            return
        wait = self._waits.get(req_id)
        if wait is None:
            if req_id in self._over:
                self.counts.late += 1
            else:
                self.counts.unknown += 1
        elif wait.missing <= 0:
            self.counts.surplus += 1
        else:
            self.counts.taken += 1
            wait.missing -= 1
            if wait.missing == 0:
                wait.arrived.set()


def _req_id(message: bytes) -> str | None:
    try:
        fields = msgpack.unpackb(message)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
        return None
    if not isinstance(fields, dict) or fields.get("type") not in _TYPES:
        return None
    req_id = fields.get("req_id")
    return req_id if isinstance(req_id, str) else None

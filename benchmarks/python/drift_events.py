"""The simulated engines' true events, over the sockets that real ones use, into a router."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from types import TracebackType

import kvroute
import zmq
from drift_fleet import Engine, Running
from kvroute.engines.events import EventEncoder, EventFormat
from kvroute.engines.prefix_cache import BlocksRemoved, BlocksStored, CacheEvent

_PAUSE = 50e-6
_PATIENCE = 120  # seconds; also on a machine that has no time for us


class EventFeed:
    """One publisher for each engine, which it also adds to the router as a worker."""

    owner: Callable[[object], Running]
    """The request that an event's owner belongs to; to be set before the first event."""

    def __init__(self, router: kvroute.KvRouter, engines: list[Engine], block_size: int) -> None:
        self._router = router
        self._block_size = block_size
        self._encoder = EventEncoder(EventFormat.MAP, block_size)
        self._context = zmq.Context()
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        self._published = {engine.name: 0 for engine in engines}
        self._unsent: dict[str, list[bytes]] = {engine.name: [] for engine in engines}
        for engine in engines:
            socket = self._context.socket(zmq.XPUB)  # which hears of its subscriber
            socket.setsockopt(zmq.SNDHWM, 0)
            socket.setsockopt(zmq.LINGER, 0)
            port = socket.bind_to_random_port("tcp://127.0.0.1")
            self._sockets[engine.name] = socket
            endpoint = f"tcp://127.0.0.1:{port}"
            blocks = engine.cache.num_blocks
            router.add_worker(engine.name, kv_events=endpoint, total_blocks=blocks)
            if not socket.poll(1000 * _PATIENCE):
                raise TimeoutError(f"{engine.name}: nobody subscribed")
            socket.recv()

    def publish(self, engine: Engine, events: list[CacheEvent]) -> None:
        """Has them sent, as one batch with those of other steps, when someone waits for them."""
        self._unsent[engine.name] += (part for event in events for part in self._pack(event))

    def wait_until_applied(self) -> None:
        """Returns when the router has applied all that was published. Raises TimeoutError."""
        for name, packed in self._unsent.items():
            if packed:
                number = self._published[name]
                self._published[name] = number + 1
                payload = self._encoder.batch(time.time(), packed)
                self._sockets[name].send_multipart([b"", struct.pack(">Q", number), payload])
                packed.clear()
        deadline = time.monotonic() + _PATIENCE
        while any(
            target.events["batches"] < self._published[str(target.worker)]
            for target in self._router.stats().targets
        ):
            if time.monotonic() > deadline:
                raise TimeoutError("events: some were not applied in time")
            time.sleep(_PAUSE)

    def _pack(self, event: CacheEvent) -> list[bytes]:
        if isinstance(event, BlocksStored):
            request = self.owner(event.owner).request
            tokens = request.prompt + request.output
            first = event.first * self._block_size
            last = first + len(event.names) * self._block_size
            return [self._encoder.stored(event.names, event.parent, tokens[first:last].tolist())]
        if isinstance(event, BlocksRemoved):
            return self._encoder.removed(event.names)
        return [self._encoder.cleared()]

    def __enter__(self) -> EventFeed:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._router.close()
        self._context.destroy(linger=0)

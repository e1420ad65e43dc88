"""A publisher of KV events as vLLM has it: PUB and replay sockets, bound to ports of the system's
choice; every batch is kept for replay."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import msgpack
import zmq

END = b"\xff" * 8


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Waits for what another process or thread brings about; fails after 20 seconds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.005)


def stored(
    hashes: list[int], token_ids: list[int], *, parent: int | None = None, **extra: Any
) -> dict[str, Any]:
    return {
        "type": "BlockStored",
        "block_hashes": hashes,
        "parent_block_hash": parent,
        "token_ids": token_ids,
        "block_size": len(token_ids) // len(hashes),
        "lora_id": None,
        "medium": "GPU",
        "lora_name": None,
        **extra,
    }


def offloaded(hashes: list[int], medium: str) -> dict[str, Any]:
    """As vLLM's offloading connector says it: by name alone."""
    return stored(hashes, [], medium=medium)


def removed(hashes: list[int], medium: str = "GPU") -> dict[str, Any]:
    return {"type": "BlockRemoved", "block_hashes": hashes, "medium": medium}


CLEARED = {"type": "AllBlocksCleared"}


class EventPublisher:
    """`publish` sends a batch, `lose` only keeps it; `restart` begins again at sequence 0."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._pub = self._context.socket(zmq.PUB)
        self._pub.setsockopt(zmq.LINGER, 0)
        self.events = f"tcp://127.0.0.1:{self._pub.bind_to_random_port('tcp://127.0.0.1')}"
        self._router = self._context.socket(zmq.ROUTER)
        self._router.setsockopt(zmq.LINGER, 0)
        self.replay = f"tcp://127.0.0.1:{self._router.bind_to_random_port('tcp://127.0.0.1')}"
        self._batches: list[bytes] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._answer_replays, daemon=True)
        self._thread.start()

    def lose(self, *events: dict[str, Any]) -> None:
        with self._lock:
            self._batches.append(msgpack.packb([1.0, list(events), 0]))

    def publish(self, *events: dict[str, Any]) -> None:
        self.lose(*events)
        with self._lock:
            number = len(self._batches) - 1
            self._pub.send_multipart([b"", struct.pack(">Q", number), self._batches[number]])

    def restart(self) -> None:
        with self._lock:
            self._batches.clear()

    def _answer_replays(self) -> None:
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        while not self._stop.is_set():
            if not poller.poll(50):
                continue
            identity, _, start = self._router.recv_multipart()
            with self._lock:
                batches = list(enumerate(self._batches))[struct.unpack(">Q", start)[0] :]
            for number, payload in batches:
                self._router.send_multipart(
                    [identity, b"", b"", struct.pack(">Q", number), payload]
                )
            self._router.send_multipart([identity, b"", b"", b"", END])

    def __enter__(self) -> EventPublisher:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=10)
        self._context.destroy(linger=0)

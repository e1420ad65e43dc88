"""The load metrics that a simulated engine pushes: waiting requests and cache usage."""

from __future__ import annotations

import contextlib

import orjson
import zmq

from kvroute.engines.errors import InvalidConfigError
from kvroute.engines.event_publisher import open_publisher


class LoadPublisher:
    """A PUB socket of one-frame messages ``{"num_waiting_reqs": int, "kv_cache_usage": float}``.

    The shape is that of Dynamo's standalone router example. Usage is 0 to 1. Never blocks; a late
    subscriber learns with the next message, so publish at times also when nothing changes.
    """

    def __init__(self, endpoint: str, *, connect: bool = False) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._pub, self.endpoint = open_publisher(self._context, endpoint, connect)
        except InvalidConfigError:
            self._context.destroy(linger=0)
            raise

    def publish(self, num_waiting: int, kv_cache_usage: float) -> None:
        """Send one report."""
        message = {"num_waiting_reqs": num_waiting, "kv_cache_usage": kv_cache_usage}
        with contextlib.suppress(zmq.Again):
            self._pub.send(orjson.dumps(message), zmq.NOBLOCK)

    def close(self) -> None:
        """Close the socket; nothing may be published after."""
        self._context.destroy(linger=0)

"""The ZMQ addresses of P2pNccl engines, as the engines register them.

Source: vLLM,
examples/online_serving/disaggregated_serving_p2p_nccl_xpyd/disagg_proxy_p2p_nccl_xpyd.py: each
engine's DEALER sends the proxy's ROUTER a msgpack map ``{"type": "P" | "D", "http_address":
"ip:port", "zmq_address": "ip:port"}``, again and again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

import msgpack  # type: ignore[import-untyped] # it has none

from kvroute.disagg.connectors.option_values import same_url
from kvroute.disagg.connectors.worker_hosts import WorkerHosts
from kvroute.disagg.connectors.zmq_binding import ZmqBinding

_KINDS = ("P", "D")


class Registrations:
    """What the fleet's engines have registered, and what was configured. One event loop's.

    Taken is only what an engine of the fleet says from its own host, see `WorkerHosts`: memory is
    bounded by the fleet. An engine's host may say of its own engines what it likes.

    Args:
        fixed: ZMQ addresses by engine URL; they are never forgotten and win.
        host, port: to bind, as `ZmqBinding` takes them; a port of None binds nothing.
        lifetime: seconds after which an engine that is not heard again is forgotten.
        hosts: who may register what.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        fixed: Mapping[str, str],
        host: str,
        port: int | None,
        lifetime: float,
        hosts: WorkerHosts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.taken = 0
        self.malformed = 0
        self.refused = 0
        """Messages that were a registration; that were none; and that were one of no engine of the
        fleet, or not from that engine's host."""
        self._fixed = {same_url(url): address for url, address in fixed.items()}
        self._lifetime = lifetime
        self._hosts = hosts
        self._clock = clock
        self._heard: dict[str, tuple[float, str]] = {}
        self._binding: ZmqBinding | None = None
        if port is not None:
            name = "registration_host, registration_port"
            self._binding = ZmqBinding("ROUTER", host, port, self.take, name)

    @property
    def endpoint(self) -> str:
        """What is bound; "" where nothing is."""
        return "" if self._binding is None else self._binding.endpoint

    def workers_are(self, urls: Iterable[str]) -> None:
        """Tells the fleet's engines; what others have registered is forgotten."""
        self._hosts.workers_are(urls)
        self._heard = {url: heard for url, heard in self._heard.items() if url in self._hosts}

    async def open(self) -> None:
        """Binds, where a port is configured. Raises OSError naming the address."""
        if self._binding is not None:
            await self._hosts.open()
            await self._binding.open()

    async def close(self) -> None:
        """Idempotent."""
        if self._binding is not None:
            await self._binding.close()
            await self._hosts.close()

    def zmq_address(self, url: str) -> str | None:
        """Of the engine at `url`; None where it has not registered, or not lately."""
        key = same_url(url)
        fixed = self._fixed.get(key)
        if fixed is not None:
            return fixed
        heard = self._heard.get(key)
        if heard is None or self._clock() - heard[0] > self._lifetime:
            return None
        return heard[1]

    def take(self, frames: list[bytes], peer: str) -> None:
        """Reads one message from the host `peer`. Never raises."""
        try:
            fields = msgpack.unpackb(frames[-1]) if len(frames) in (1, 2) else None
        except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
            fields = None
        if not isinstance(fields, dict) or fields.get("type") not in _KINDS:
            self.malformed += 1
            return
        engine, address = fields.get("http_address"), fields.get("zmq_address")
        if not (isinstance(engine, str) and is_address(engine) and is_address(address)):
            self.malformed += 1
            return
        url = self._hosts.worker_of(engine, peer)
        if url is None:
            self.refused += 1
            return
        self.taken += 1
        self._heard[url] = (self._clock(), str(address))


def is_address(address: object) -> bool:
    """Whether it is "host:port", and nothing that would be read as more in a request id."""
    if not isinstance(address, str) or "___" in address or not address.isprintable():
        return False
    host, _, port = address.rpartition(":")
    return bool(host) and address.isascii() and " " not in address and port.isdecimal()

"""The ZMQ addresses of P2pNccl engines, as the engines register them.

Source: vLLM,
examples/online_serving/disaggregated_serving_p2p_nccl_xpyd/disagg_proxy_p2p_nccl_xpyd.py: each
engine's DEALER sends the proxy's ROUTER a msgpack map ``{"type": "P" | "D", "http_address":
"ip:port", "zmq_address": "ip:port"}``, again and again.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import msgpack  # type: ignore[import-untyped] # it has none
import zmq

from kvroute.disagg.connectors.zmq_binding import ZmqBinding

_MAX_ENGINES = 4096
_KINDS = ("P", "D")


class Registrations:
    """What engines have registered, and what was configured. One event loop's.

    Bounded to 4096 engines: the one heard longest ago goes first.

    Args:
        fixed: ZMQ addresses by engine URL; they are never forgotten and win.
        host, port: to bind, as `ZmqBinding` takes them; a port of None binds nothing.
        lifetime: seconds after which an engine that is not heard again is forgotten.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        fixed: Mapping[str, str],
        host: str,
        port: int | None,
        lifetime: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.taken = 0
        self.malformed = 0
        """Messages that were a registration, and that were none."""
        self._fixed = {http_address(url): address for url, address in fixed.items()}
        self._lifetime = lifetime
        self._clock = clock
        self._heard: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._binding: ZmqBinding | None = None
        if port is not None:
            name = "registration_host, registration_port"
            self._binding = ZmqBinding(zmq.ROUTER, host, port, self.take, name)

    @property
    def endpoint(self) -> str:
        """What is bound; "" where nothing is."""
        return "" if self._binding is None else self._binding.endpoint

    async def open(self) -> None:
        """Binds, where a port is configured. Raises OSError naming the address."""
        if self._binding is not None:
            await self._binding.open()

    async def close(self) -> None:
        """Idempotent."""
        if self._binding is not None:
            await self._binding.close()

    def zmq_address(self, url: str) -> str | None:
        """Of the engine at `url`; None where it has not registered, or not lately."""
        key = http_address(url)
        fixed = self._fixed.get(key)
        if fixed is not None:
            return fixed
        heard = self._heard.get(key)
        if heard is None or self._clock() - heard[0] > self._lifetime:
            return None
        return heard[1]

    def take(self, frames: list[bytes]) -> None:
        """Reads one message: [identity, registration]. Never raises."""
        try:
            fields = msgpack.unpackb(frames[-1]) if len(frames) in (2, 3) else None
        except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
            fields = None
        if not isinstance(fields, dict) or fields.get("type") not in _KINDS:
            self.malformed += 1
            return
        engine, address = fields.get("http_address"), fields.get("zmq_address")
        if not (is_address(engine) and is_address(address)):
            self.malformed += 1
            return
        self.taken += 1
        key = str(engine).lower()
        self._heard[key] = (self._clock(), str(address))
        self._heard.move_to_end(key)
        if len(self._heard) > _MAX_ENGINES:
            self._heard.popitem(last=False)


def http_address(url: str) -> str:
    """How an engine names its own URL: "host:port"."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def is_address(address: object) -> bool:
    """Whether it is "host:port", and nothing that would be read as more in a request id."""
    if not isinstance(address, str) or "___" in address or not address.isprintable():
        return False
    host, _, port = address.rpartition(":")
    return bool(host) and address.isascii() and " " not in address and port.isdecimal()

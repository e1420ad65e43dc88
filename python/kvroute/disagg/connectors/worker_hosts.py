"""Which engine of the fleet a word from the network is about, and whose word is believed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable
from urllib.parse import urlsplit

from kvroute.disagg.connectors.option_values import same_url
from kvroute.disagg.connectors.zmq_binding import plain_address

logger = logging.getLogger("kvroute.disagg")

ANY = "any"
_REFRESH_SECONDS = 30.0

Resolve = Callable[[str], Awaitable[Collection[str]]]
"""The IP addresses of a host's name. Raises OSError."""


class WorkerHosts:
    """The engines of the fleet and the addresses of their hosts, asked for anew every 30 seconds.

    An engine is named by its host's name, as its URL has it, or by one of its addresses; in both
    cases with its port. Words are believed that come from one of its host's addresses, or from
    those of `others`.

    Args:
        others: further addresses that may speak for every engine, such as a network translator's;
            ANY is every address.
        resolve: how names are resolved; the system's way unless it is given.
    """

    def __init__(self, others: str | Collection[str] = (), resolve: Resolve | None = None) -> None:
        self._trusts_any = others == ANY
        self._others = {plain_address(one) for one in ([] if self._trusts_any else others)}
        self._resolve = resolve or _addresses
        self._urls: dict[str, tuple[str, int]] = {}
        self._known: dict[str, frozenset[str]] = {}
        self._refreshing: asyncio.Task[None] | None = None

    def __contains__(self, url: str) -> bool:
        return url in self._urls

    def workers_are(self, urls: Iterable[str]) -> None:
        """Tells the fleet. Addresses of names that are new are there after the next turn."""
        parts = {url: urlsplit(url) for url in map(same_url, urls)}
        self._urls = {
            url: (plain_address(part.hostname or ""), part.port or 0) for url, part in parts.items()
        }
        if self._refreshing is not None:
            self._refreshing.cancel()
            self._refreshing = asyncio.create_task(self._refresh_for_ever())

    async def open(self) -> None:
        """Resolves all names, and goes on doing so until `close`."""
        await self._refresh()
        self._refreshing = asyncio.create_task(self._refresh_for_ever())

    async def close(self) -> None:
        """Idempotent."""
        task, self._refreshing = self._refreshing, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def worker_of(self, http_address: str, peer: str) -> str | None:
        """The URL (`same_url`) of the engine at "host:port" that `peer`, an IP address, may speak
        for; None where there is none."""
        host, _, digits = http_address.rpartition(":")
        host = plain_address(host.strip("[]").lower())
        if len(digits) > 5:
            return None
        for url, (name, port) in self._urls.items():
            addresses = self._known.get(name, frozenset())
            is_meant = port == int(digits) and (host == name or host in addresses)
            if is_meant and (self._trusts_any or peer in addresses or peer in self._others):
                return url
        return None

    async def _refresh_for_ever(self) -> None:
        while True:
            await self._refresh()
            await asyncio.sleep(_REFRESH_SECONDS)

    async def _refresh(self) -> None:
        """A name that cannot be resolved now keeps the addresses it had."""
        names = {name for name, _ in self._urls.values()}
        found = await asyncio.gather(*map(self._resolve, names), return_exceptions=True)
        known = {}
        for name, addresses in zip(names, found, strict=True):
            if isinstance(addresses, OSError):
                logger.warning("%s: cannot be resolved (%s)", name, addresses)
                known[name] = self._known.get(name, frozenset())
            elif isinstance(addresses, BaseException):
                raise addresses
            else:
                known[name] = frozenset(map(plain_address, addresses))
        self._known = known


async def _addresses(host: str) -> Collection[str]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # what no name can be
        raise OSError(str(error)) from error
    return {str(info[4][0]) for info in found}

"""The client to the engines: a small interface, and aiohttp's behind it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Sequence
from typing import Protocol

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from kvroute.frontend.connection_slots import ConnectionSlots, NoSlotError

Headers = Sequence[tuple[bytes, bytes]]
_LARGE_BODY = 1 << 20


class UpstreamError(Exception):
    """The engine failed; `answered` says whether any byte of its answer had come."""

    def __init__(self, message: str, *, answered: bool = False) -> None:
        super().__init__(message)
        self.answered = answered


class UpstreamUnreachableError(UpstreamError):
    """No connection could be made."""


class UpstreamTimeoutError(UpstreamError):
    """The engine was silent for longer than the configured time."""


class UpstreamBusyError(UpstreamError):
    """All connections that we may have are in use: that says nothing of the engine."""


def failure_reason(error: UpstreamError) -> str:
    """What metrics call it: unreachable, timeout, broken."""
    if isinstance(error, UpstreamUnreachableError):
        return "unreachable"
    return "timeout" if isinstance(error, UpstreamTimeoutError) else "broken"


def is_event_stream(headers: Headers) -> bool:
    """Whether an answer with these headers is one of server-sent events."""
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in headers
    )


class UpstreamResponse(Protocol):
    """An answer whose head has come. It must be closed, also after it was read to the end."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Headers: ...
    async def read_chunk(self) -> bytes:
        """What has come, as soon as something has; b"" at the end. Raises UpstreamError."""

    def close(self) -> None:
        """Drops the rest of the answer; its connection is closed unless the answer had ended."""


class Upstream(Protocol):
    """Sends requests to engines over kept connections. Cancelling a call ends its request."""

    async def request(
        self, method: str, url: str, headers: Headers, body: bytes | None, *, resend: bool = True
    ) -> UpstreamResponse:
        """Raises UpstreamError. A connection that ends before a byte of the answer came is tried
        once more, on a fresh connection, unless `resend` is false: a kept one may just have been
        closed by its peer."""

    async def close(self) -> None: ...


async def get(upstream: Upstream, url: str, limit: int = 1 << 20) -> bytes:
    """The body of a GET's answer with status 200. Raises UpstreamError, and ValueError for another
    status and above `limit` bytes."""
    response = await upstream.request("GET", url, [], None)
    try:
        body = bytearray()
        while chunk := await response.read_chunk():
            body += chunk
            if len(body) > limit:
                raise ValueError(f"{url}: an answer above {limit} bytes")
        if response.status != 200:
            raise ValueError(f"{url}: status {response.status}")
        return bytes(body)
    finally:
        response.close()


class AiohttpUpstream:
    """One aiohttp session for all engines, and one without kept connections for second tries."""

    def __init__(
        self,
        *,
        connect_timeout: float,
        read_timeout: float,
        max_connections: int,
        max_header_bytes: int,
        keepalive: float = 4.0,
    ) -> None:
        """`connect_timeout` holds for the wait for one of `max_connections` and, by itself, for
        the connecting. `keepalive`: seconds for which an idle connection is kept, less than the
        five after which vLLM's server closes its side. Needs a running event loop."""
        self._slots = ConnectionSlots(max_connections)
        self._slot_timeout = connect_timeout
        timeout = aiohttp.ClientTimeout(
            total=None,
            connect=connect_timeout,
            sock_connect=connect_timeout,
            sock_read=read_timeout,
        )

        def session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
            return aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                max_line_size=max_header_bytes,
                max_field_size=max_header_bytes,
                max_headers=1000,
            )

        self._kept = session(
            aiohttp.TCPConnector(limit=0, keepalive_timeout=keepalive, ttl_dns_cache=30)
        )
        self._fresh = session(aiohttp.TCPConnector(limit=0, force_close=True, ttl_dns_cache=30))
        self._urls: dict[str, URL] = {}

    async def request(
        self, method: str, url: str, headers: Headers, body: bytes | None, *, resend: bool = True
    ) -> UpstreamResponse:
        fields = CIMultiDict((name.decode("latin-1"), _text(value)) for name, value in headers)
        try:
            await self._slots.acquire(self._slot_timeout)
        except NoSlotError:
            raise UpstreamBusyError(
                f"all {self._slots.count} connections to engines are in use"
            ) from None
        try:
            if resend:
                response = await self._send_twice(method, url, fields, body)
            else:
                response = await self._send(self._kept, method, url, fields, body)
        except BaseException:
            self._slots.release()
            raise
        return _AiohttpResponse(response, url, self._slots.release)

    async def _send_twice(
        self, method: str, url: str, fields: CIMultiDict[str], body: bytes | None
    ) -> aiohttp.ClientResponse:
        try:
            return await self._send(self._kept, method, url, fields, body)
        except UpstreamError as error:
            if isinstance(error, (UpstreamUnreachableError, UpstreamTimeoutError)):
                raise
            if error.answered:
                raise
        return await self._send(self._fresh, method, url, fields, body)

    async def _send(
        self,
        session: aiohttp.ClientSession,
        method: str,
        url: str,
        headers: CIMultiDict[str],
        body: bytes | None,
    ) -> aiohttp.ClientResponse:
        data = io.BytesIO(body) if body is not None and len(body) > _LARGE_BODY else body
        try:
            return await session.request(
                method, self._url(url), headers=headers, data=data, allow_redirects=False
            )
        except aiohttp.ClientConnectorError as error:
            raise UpstreamUnreachableError(f"{url}: {error.os_error}") from error
        except aiohttp.ConnectionTimeoutError as error:
            raise UpstreamUnreachableError(f"{url}: no connection in time") from error
        except asyncio.TimeoutError as error:
            raise UpstreamTimeoutError(f"{url}: no answer in time") from error
        except aiohttp.ClientResponseError as error:
            raise UpstreamError(f"{url}: {error.message}", answered=True) from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamError(f"{url}: {error or type(error).__name__}") from error

    def _url(self, text: str) -> URL:
        url = self._urls.get(text)
        if url is None:
            if len(self._urls) >= 1024:
                self._urls.clear()
            url = self._urls[text] = URL(text)
        return url

    async def close(self) -> None:
        await self._kept.close()
        await self._fresh.close()


def _text(value: bytes) -> str:
    """A header's value so that aiohttp, which encodes UTF-8, sends the same bytes if it can."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


class _AiohttpResponse:
    def __init__(
        self, response: aiohttp.ClientResponse, url: str, released: Callable[[], None]
    ) -> None:
        self._response = response
        self._released: Callable[[], None] | None = released
        self._url = url
        self.status = response.status
        self.headers: Headers = response.raw_headers

    async def read_chunk(self) -> bytes:
        try:
            return await self._response.content.readany()
        except asyncio.TimeoutError as error:
            raise UpstreamTimeoutError(
                f"{self._url}: silent for too long", answered=True
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamError(
                f"{self._url}: the answer broke off: {error or type(error).__name__}", answered=True
            ) from error

    def close(self) -> None:
        self._response.close()
        if self._released is not None:
            self._released()
            self._released = None

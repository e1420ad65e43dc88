"""The client to the engines: a small interface, and aiohttp's behind it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from typing import Protocol

import aiohttp
from multidict import CIMultiDict
from yarl import URL

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


class UpstreamResponse(Protocol):
    """An answer whose head has come. End it by reading to the end or by `close`."""

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
        self, method: str, url: str, headers: Headers, body: bytes | None
    ) -> UpstreamResponse:
        """Raises UpstreamError. A connection that ends before a byte of the answer came is tried
        once more, on a fresh connection: a kept one may just have been closed by its peer."""

    async def close(self) -> None: ...


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
        """`keepalive`: seconds for which an idle connection is kept, less than the five after
        which vLLM's server closes its side. Needs a running event loop."""
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
            aiohttp.TCPConnector(
                limit=max_connections, keepalive_timeout=keepalive, ttl_dns_cache=30
            )
        )
        self._fresh = session(
            aiohttp.TCPConnector(limit=max_connections, force_close=True, ttl_dns_cache=30)
        )
        self._urls: dict[str, URL] = {}

    async def request(
        self, method: str, url: str, headers: Headers, body: bytes | None
    ) -> UpstreamResponse:
        fields = CIMultiDict((name.decode("latin-1"), _text(value)) for name, value in headers)
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
    ) -> UpstreamResponse:
        data = io.BytesIO(body) if body is not None and len(body) > _LARGE_BODY else body
        try:
            response = await session.request(
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
        return _AiohttpResponse(response, url)

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
    def __init__(self, response: aiohttp.ClientResponse, url: str) -> None:
        self._response = response
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

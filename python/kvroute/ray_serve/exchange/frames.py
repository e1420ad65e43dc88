"""Messages over a stream."""

from __future__ import annotations

import asyncio

from kvroute.ray_serve.exchange import wire
from kvroute.ray_serve.exchange.operations import WireError

BROKEN = (OSError, EOFError, WireError, asyncio.TimeoutError)
"""What ends a connection: it broke, it spoke nonsense, or it took too long."""


async def receive(reader: asyncio.StreamReader, limit: int) -> tuple[wire.Message, int]:
    """The next message of at most `limit` bytes, and how many came. Raises one of BROKEN."""
    head = await reader.readexactly(wire.LENGTH_BYTES)
    length = wire.length_of(head, limit)
    return wire.decode(await reader.readexactly(length)), wire.LENGTH_BYTES + length

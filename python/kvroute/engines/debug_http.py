"""The paths by which tests set failures on a simulated engine and see what it holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson

from kvroute.engines.http_exchange import Exchange
from kvroute.engines.openai_requests import parse_json
from kvroute.engines.transfer.transfers import Transfers


class DebugRoutes:
    """``/debug/faults`` and ``/debug/transfers`` of one engine."""

    def __init__(self, transfers: Transfers) -> None:
        self._transfers = transfers
        self.routes: dict[tuple[str, str], Callable[[Exchange], Awaitable[None]]] = {
            ("POST", "/debug/faults"): self._set_fault,
            ("GET", "/debug/faults"): self._show_faults,
            ("DELETE", "/debug/faults"): self._clear_faults,
            ("GET", "/debug/transfers"): self._show_transfers,
        }

    async def _set_fault(self, exchange: Exchange) -> None:
        self._transfers.faults.set(parse_json(await exchange.read_body()))
        await self._show_faults(exchange)

    async def _show_faults(self, exchange: Exchange) -> None:
        pending = {"faults": self._transfers.faults.pending()}
        await exchange.respond(200, orjson.dumps(pending))

    async def _clear_faults(self, exchange: Exchange) -> None:
        self._transfers.faults.clear()
        await self._show_faults(exchange)

    async def _show_transfers(self, exchange: Exchange) -> None:
        await exchange.respond(200, orjson.dumps(self._transfers.state()))

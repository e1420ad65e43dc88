"""LMCache's receiver: an init and an alloc port for each rank of a decode engine."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from kvroute.engines.transfer.arrivals import Arrivals
from kvroute.engines.transfer.fields import Fields
from kvroute.engines.transfer.role import Site
from kvroute.engines.transfer.side_channel import SideChannel, TransferFailedError


class ReceiverPorts:
    """Takes what senders write, and refuses who came to the wrong port.

    Attributes:
        init_ports, alloc_ports: one for each rank, once opened.
    """

    def __init__(
        self,
        site: Site,
        arrivals: Arrivals,
        failure: Callable[[str, str], TransferFailedError],
    ) -> None:
        self._site = site
        self._arrivals = arrivals
        self._failure = failure
        self._channels: list[SideChannel] = []
        self.init_ports: list[int] = []
        self.alloc_ports: list[int] = []

    async def open(self) -> None:
        """Listen on all of them."""
        config = self._site.config
        chosen = (0,) * config.tensor_parallel_size
        for rank in range(config.tensor_parallel_size):
            for kind, wanted, ports in (
                ("init", config.kv_init_ports or chosen, self.init_ports),
                ("alloc", config.kv_alloc_ports or chosen, self.alloc_ports),
            ):
                channel = SideChannel(functools.partial(self._serve, kind, rank))
                self._channels.append(channel)
                await channel.open(config.host, wanted[rank])
                ports.append(channel.port)

    async def close(self) -> None:
        """Stop listening. Idempotent."""
        for channel in self._channels:
            await channel.close()

    async def _serve(self, kind: str, rank: int, question: dict[str, Any]) -> dict[str, Any]:
        fields = Fields("", question)
        asked = (fields.get("kind"), fields.get("tp_rank"))
        if asked != (kind, rank):
            message = f"expected the {asked[0]} port of rank {asked[1]}, this is {kind} of {rank}"
            raise self._failure("receiver", message)
        if fields.get("op") == "write":
            await self._site.faults.reach("transfer")
            req_id, keys = fields.text("req_id"), fields.get("keys")
            await asyncio.sleep(self._site.transfer_seconds(len(keys)))
            try:
                self._arrivals.write(req_id, rank, keys)
            except ValueError as error:
                raise self._failure("req_id", f"{req_id}: {error}") from error
        return {"engine_id": self._site.engine_id}

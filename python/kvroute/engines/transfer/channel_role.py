"""A role whose data plane is one port that other engines ask."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from kvroute.engines.transfer.role import Site, TransferRole
from kvroute.engines.transfer.side_channel import SideChannel


class ChannelRole(TransferRole):
    """Listens at the engine's host and its configured data port while it is open."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.channel = SideChannel(self._serve)

    async def open(self) -> None:
        await self.channel.open(self.site.config.host, self.site.config.kv_port)

    async def close(self) -> None:
        await super().close()
        await self.channel.close()

    def addresses(self) -> dict[str, Any]:
        return {
            "engine_id": self.site.engine_id,
            "host": self.site.config.host,
            "port": self.channel.port,
        }

    @abstractmethod
    async def _serve(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answers another engine. Raises TransferFailedError."""

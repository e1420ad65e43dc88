"""An engine's transfers: its connector's role, what it holds, what it counts, how it may fail."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from kvroute.engines.config import EngineConfig
from kvroute.engines.errors import RequestRefusedError
from kvroute.engines.prefix_cache import PrefixCache
from kvroute.engines.transfer.faults import Faults
from kvroute.engines.transfer.holds import Holds
from kvroute.engines.transfer.ledger import Ledger
from kvroute.engines.transfer.lmcache import LmcacheRole
from kvroute.engines.transfer.mooncake import MooncakeRole
from kvroute.engines.transfer.nixl import NixlRole
from kvroute.engines.transfer.p2p_nccl import P2pNcclRole
from kvroute.engines.transfer.role import Call, Leg, Site, TransferRole
from kvroute.engines.transfer.sglang import SglangRole
from kvroute.engines.transfer.shared_storage import SharedStorageRole
from kvroute.engines.transfer.side_channel import TransferFailedError

_ROLES: dict[str, type[TransferRole]] = {
    role.name: role
    for role in (
        NixlRole,
        LmcacheRole,
        SglangRole,
        MooncakeRole,
        P2pNcclRole,
        SharedStorageRole,
    )
}


class Transfers:
    """Of an engine with a connector or without; without one every request is served whole.

    Args:
        config: the engine's.
        cache: its prefix cache.
        on_room: called when blocks that were held came free.
    """

    def __init__(
        self, config: EngineConfig, cache: PrefixCache, on_room: Callable[[], None]
    ) -> None:
        self.faults = Faults()
        self.ledger = Ledger()
        self.holds = Holds(cache, self.ledger, config.transfer_expiry, on_room)
        self.role: TransferRole | None = None
        self._config = config
        if config.kv_connector is not None:
            site = Site(config, uuid.uuid4().hex, self.ledger, self.holds, self.faults)
            self.role = _ROLES[config.kv_connector](site)

    async def open(self) -> None:
        """Open the role's ports."""
        if self.role is not None:
            try:
                await self.role.open()
            except BaseException:
                await self.role.close()
                raise

    async def close(self) -> None:
        """Close them; what is held has leaked. Idempotent."""
        if self.role is not None:
            await self.role.close()
        self.holds.close()

    def leg(self, call: Call) -> Leg:
        """The engine's part in a request. RequestRefusedError, counted by its field."""
        if self.role is None:
            return Leg()
        try:
            return self.role.leg(call)
        except RequestRefusedError as error:
            self.ledger.refused[error.param or "body"] += 1
            raise

    async def receive(self, leg: Leg) -> Sequence[int]:
        """What came for a leg's prompts, counted: leading blocks of each; empty where none can."""
        try:
            received = await leg.receive()
        except TransferFailedError as error:
            if not error.is_counted:
                self.ledger.failed[error.reason] += 1
            raise
        self.ledger.received += sum(1 for blocks in received if blocks)
        self.ledger.received_blocks += sum(received)
        return received

    def addresses(self) -> dict[str, Any] | None:
        """What other engines and the router need to know of it; None without a connector."""
        if self.role is None:
            return None
        kinds = {"connector": self.role.name, "role": self._config.kv_role.value}
        return {**kinds, **self.role.addresses()}

    def state(self) -> dict[str, Any]:
        """What ``GET /debug/transfers`` answers."""
        return {
            "connector": None if self.role is None else self.role.name,
            "role": self._config.kv_role.value,
            "held_requests": self.holds.num_handoffs,
            "held_blocks": self.holds.num_blocks,
            "waiting": 0 if self.role is None else self.role.waiting(),
            **self.ledger.counts(),
        }

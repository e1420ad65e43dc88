"""Shared storage: the prefill engine writes its blocks to a directory, any engine loads them.

After vLLM's SharedStorageConnector: what is stored is one prompt, all of its blocks but the last
token's; it is found by its content alone, and no field of a request speaks of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from kvroute.engines.config import KvRole
from kvroute.engines.prefix_cache import BlockName
from kvroute.engines.transfer.role import Call, Leg, Site, TransferRole, check_prefill


class SharedStorageRole(TransferRole):
    """A file for each prompt, named by its content's hash. Nothing is held in the cache for it."""

    name = "shared_storage"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        assert site.config.kv_shared_path is not None
        self.path = site.config.kv_shared_path

    async def open(self) -> None:
        await asyncio.to_thread(self.path.mkdir, parents=True, exist_ok=True)

    def addresses(self) -> dict[str, Any]:
        return {"path": str(self.path)}

    def leg(self, call: Call) -> Leg:
        if call.params is not None:
            call.params.only(())
        role = self.site.config.kv_role
        if role is KvRole.PREFILL:
            check_prefill(call, streams=True)
        size = self.site.config.block_size
        keys = [
            self.site.keys(prompt, call.request.salt)[: (len(prompt) - 1) // size]
            for prompt in call.request.prompts
        ]
        return _StorageLeg(self, keys, loads=self.site.is_decode, stores=self.site.is_prefill)

    def file(self, keys: Sequence[int]) -> Path:
        """Where these blocks are."""
        return self.path / f"{self.site.config.block_size}-{keys[-1]:016x}.json"


class _StorageLeg(Leg):
    def __init__(
        self, role: SharedStorageRole, keys: list[list[int]], *, loads: bool, stores: bool
    ) -> None:
        self._role = role
        self._keys = keys
        self._loads = loads
        self._stores = stores
        self.is_prefill = stores and not loads

    async def receive(self) -> Sequence[int]:
        return [await self._load(keys) if self._loads and keys else 0 for keys in self._keys]

    async def answer(self) -> dict[str, Any] | None:
        if self._stores:
            for keys in self._keys:
                if keys:
                    await self._store(keys)
        return None

    async def _load(self, keys: list[int]) -> int:
        site = self._role.site
        await site.faults.reach("transfer")
        try:
            stored = orjson.loads(await asyncio.to_thread(self._role.file(keys).read_bytes))
        except FileNotFoundError:
            if site.config.kv_role is KvRole.DECODE:
                site.ledger.missed["not_stored"] += 1
            return 0
        if stored != keys:
            raise self._role.failure("content", "a stored prompt has another prompt's name")
        await asyncio.sleep(site.transfer_seconds(len(keys)))
        return len(keys)

    async def _store(self, keys: list[int]) -> None:
        site = self._role.site
        await asyncio.sleep(site.transfer_seconds(len(keys)))
        file = self._role.file(keys)
        await asyncio.to_thread(_write_whole, file, orjson.dumps(keys), site.engine_id)

    def computed(self, index: int, names: Sequence[BlockName], /) -> None:
        """The blocks are copied to the storage; none has to stay."""


def _write_whole(file: Path, content: bytes, unique: str) -> None:
    part = file.with_suffix(f".{unique}")
    part.write_bytes(content)
    part.replace(file)

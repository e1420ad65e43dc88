"""KV events as vLLM puts them on the wire.

A batch is the msgpack array ``[ts, events, data_parallel_rank]``. Its events are

- maps with the tag under "type" (vLLM >= 0.24): fields without a value are left out, but for
  ``parent_block_hash``, ``lora_id``, ``medium`` and ``lora_name``, which are always there;
- or arrays with the tag first (vLLM 0.18 to 0.23), of full length whatever is None.

Only full blocks are announced; a removal names one block, as vLLM's do.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import msgpack  # type: ignore[import-untyped]

from kvroute.engines.prefix_cache import BlockName

_MEDIUM = "GPU"
_SPEC_KIND = "full_attention"
_GROUP = 0


class EventFormat(str, Enum):
    """How one event is encoded."""

    MAP = "map"
    ARRAY = "array"


class EventEncoder:
    """Makes wire events and batches in one format. Stateless; linear in what it is given.

    Block hashes are unsigned 64-bit integers.
    """

    def __init__(self, event_format: EventFormat, block_size: int, dp_rank: int = 0) -> None:
        self._as_map = event_format is EventFormat.MAP
        self._block_size = block_size
        self._dp_rank = dp_rank

    def stored(
        self,
        block_hashes: Sequence[BlockName],
        parent_block_hash: BlockName | None,
        token_ids: Sequence[int],
        salt: str | None = None,
    ) -> Any:
        """A BlockStored of ``len(block_hashes) * block_size`` tokens.

        ``salt`` (the cache salt) goes into the extra keys of a sequence's first block only.
        """
        extra_keys: list[list[str] | None] = [None] * len(block_hashes)
        if salt is not None and parent_block_hash is None:
            extra_keys[0] = [salt]
        if not self._as_map:
            return [
                "BlockStored",
                block_hashes,
                parent_block_hash,
                token_ids,
                self._block_size,
                None,
                _MEDIUM,
                None,
                extra_keys,
                _GROUP,
                _SPEC_KIND,
                None,
            ]
        return {
            "type": "BlockStored",
            "block_hashes": block_hashes,
            "parent_block_hash": parent_block_hash,
            "token_ids": token_ids,
            "block_size": self._block_size,
            "lora_id": None,
            "medium": _MEDIUM,
            "lora_name": None,
            "extra_keys": extra_keys,
            "group_idx": _GROUP,
            "kv_cache_spec_kind": _SPEC_KIND,
        }

    def removed(self, block_hash: BlockName) -> Any:
        """A BlockRemoved of one block."""
        if not self._as_map:
            return ["BlockRemoved", [block_hash], _MEDIUM, _GROUP]
        return {
            "type": "BlockRemoved",
            "block_hashes": [block_hash],
            "medium": _MEDIUM,
            "group_idx": _GROUP,
        }

    def cleared(self) -> Any:
        """An AllBlocksCleared."""
        return {"type": "AllBlocksCleared"} if self._as_map else ["AllBlocksCleared"]

    def batch(self, ts: float, events: Sequence[Any]) -> bytes:
        """The payload of one batch; ``ts`` is seconds since the epoch."""
        payload = msgpack.packb([ts, events, self._dp_rank])
        assert isinstance(payload, bytes)
        return payload

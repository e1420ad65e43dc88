"""KV events as vLLM puts them on the wire.

A batch is the msgpack array ``[ts, events, data_parallel_rank]``. Its events are

- maps with the tag under "type" (vLLM >= 0.24): fields without a value are left out, but for
  ``parent_block_hash``, ``lora_id``, ``medium`` and ``lora_name``, which are always there;
- or arrays with the tag first (vLLM 0.18 to 0.23), of full length whatever is None.

Only full blocks are announced; a removal names one block, as vLLM's do.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import Enum
from typing import Any

import msgpack  # type: ignore[import-untyped]

from kvroute.engines.prefix_cache import BlockName

_MEDIUM = "GPU"
_SPEC_KIND = "full_attention"
_GROUP = 0
_U64 = struct.Struct(">Q")


class EventFormat(str, Enum):
    """How one event is encoded."""

    MAP = "map"
    ARRAY = "array"


class EventEncoder:
    """Packs events and batches in one format. Stateless; linear in what it is given.

    Block hashes are unsigned 64-bit integers. Events come packed; `batch` puts them together.
    """

    def __init__(self, event_format: EventFormat, block_size: int, dp_rank: int = 0) -> None:
        self._as_map = event_format is EventFormat.MAP
        self._block_size = block_size
        self._dp_rank = dp_rank
        self._removed_head, self._removed_tail = self._around_removed_hash()

    def stored(
        self,
        block_hashes: Sequence[BlockName],
        parent_block_hash: BlockName | None,
        token_ids: Sequence[int],
        salt: str | None = None,
    ) -> bytes:
        """A BlockStored of ``len(block_hashes) * block_size`` tokens.

        ``salt`` (the cache salt) goes into the extra keys of a sequence's first block only.
        """
        extra_keys: list[list[str] | None] = [None] * len(block_hashes)
        if salt is not None and parent_block_hash is None:
            extra_keys[0] = [salt]
        fields = {
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
        return _pack(fields if self._as_map else [*fields.values(), None])

    def removed(self, block_hashes: Sequence[BlockName]) -> list[bytes]:
        """A BlockRemoved for each block."""
        head, tail = self._removed_head, self._removed_tail
        return [b"".join((head, _U64.pack(name), tail)) for name in block_hashes]

    def cleared(self) -> bytes:
        """An AllBlocksCleared."""
        return _pack({"type": "AllBlocksCleared"} if self._as_map else ["AllBlocksCleared"])

    def batch(self, ts: float, events: Sequence[bytes]) -> bytes:
        """The payload of one batch; ``ts`` is seconds since the epoch."""
        head = msgpack.Packer().pack_array_header(len(events))
        return b"".join((b"\x93", _pack(float(ts)), head, *events, _pack(self._dp_rank)))

    def _around_removed_hash(self) -> tuple[bytes, bytes]:
        """What stands before and after the hash in a BlockRemoved, of which very many go out."""
        largest = (1 << 64) - 1
        fields = {
            "type": "BlockRemoved",
            "block_hashes": [largest],
            "medium": _MEDIUM,
            "group_idx": _GROUP,
        }
        packed = _pack(fields if self._as_map else list(fields.values()))
        head, tail = packed.split(_U64.pack(largest))
        return head, tail


def _pack(value: Any) -> bytes:
    packed = msgpack.packb(value)
    assert isinstance(packed, bytes)
    return packed

"""Local block hashes as Dynamo computes them (XXH3-64, seed 1337)."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kvroute._core import InvalidArgument, hash_blocks

if TYPE_CHECKING:
    from kvroute._core import TokenIds


def compute_block_hash_for_seq(
    tokens: TokenIds,
    kv_block_size: int,
    block_mm_infos: Sequence[Mapping[str, Any] | None] | None = None,
    lora_name: str | None = None,
    is_eagle: bool | None = None,
    cache_namespace: str | None = None,
) -> list[int]:
    """Local hash of each full block; a trailing partial block gives none.

    block_mm_infos: for each block None or {"mm_objects": [{"mm_hash": int, ...}, ...]}; the hashes
        of a block's objects, sorted, are hashed with its tokens. Blocks beyond its end have none.
    lora_name, cache_namespace: separate caches that must not match; empty is absent.
    is_eagle: a block is hashed with the token after it, which must be there.

    InvalidArgument (a ValueError) for a block size of 0 and for malformed arguments.
    """
    if is_eagle:
        hash_blocks(tokens, kv_block_size)  # refuses what is malformed
        tokens = _overlapping(tokens, kv_block_size)
        kv_block_size += 1
    hashes = hash_blocks(tokens, kv_block_size, lora=lora_name, salt=cache_namespace).tolist()
    if block_mm_infos is None:
        return hashes
    if isinstance(block_mm_infos, (str, bytes)) or not isinstance(block_mm_infos, Sequence):
        raise InvalidArgument(
            "block_mm_infos: expected None or a sequence with an entry for each block, "
            f"got {block_mm_infos!r}"
        )
    ids = _array(tokens)
    for i, info in enumerate(block_mm_infos[: len(hashes)]):
        objects = _object_hashes(info, i)
        if not objects:
            continue
        content = ids[i * kv_block_size : (i + 1) * kv_block_size]
        content.frombytes(array("Q", sorted(objects)).tobytes())
        hashes[i] = hash_blocks(content, len(content), lora=lora_name, salt=cache_namespace)[0]
    return hashes


def _array(tokens: TokenIds) -> array[int]:
    return array("I", tokens if isinstance(tokens, Sequence) else memoryview(tokens))


def _overlapping(tokens: TokenIds, block_size: int) -> array[int]:
    """The windows of a block and the token after it, one after the other."""
    ids = _array(tokens)
    windows = array("I")
    for start in range(0, len(ids) - block_size, block_size):
        windows.extend(ids[start : start + block_size + 1])
    return windows


def _object_hashes(info: Mapping[str, Any] | None, block: int) -> list[int]:
    if info is None:
        return []
    try:
        return [_object_hash(found["mm_hash"]) for found in info["mm_objects"]]
    except (KeyError, IndexError, TypeError, ValueError) as problem:
        raise InvalidArgument(
            f"block_mm_infos[{block}]: expected None or "
            f'{{"mm_objects": [{{"mm_hash": int}}, ...]}} with 0 <= mm_hash < 2**64, got {info!r}'
        ) from problem


def _object_hash(value: Any) -> int:
    number = operator.index(value)
    if isinstance(value, bool) or not 0 <= number < 2**64:
        raise ValueError
    return number

"""Engine hashes: the opaque names that a simulated engine gives its blocks."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from itertools import accumulate

from kvroute._core import hash_blocks

_MASK = (1 << 64) - 1


class BlockNamer:
    """Names blocks by 64-bit hashes, chained, so that a name stands for all the tokens before it.

    As with vLLM, the chain starts from a seed of the process: two engines name the same tokens
    differently unless they were given the same seed. A name never equals what kvroute itself
    computes for the block; a router that matched by names would find nothing.

    Each link is CPython's hash of the pair (name before, content of this block), the content being
    `kvroute.hash_blocks`. Names are reproducible within one version of Python.

    Args:
        block_size: tokens a block.
        seed: any integer; None draws one from the system.
    """

    def __init__(self, block_size: int, seed: int | None = None) -> None:
        self.block_size = block_size
        self._seed = secrets.randbits(64) if seed is None else seed

    def root(self, salt: str | None = None) -> int:
        """The parent of a sequence's first block; a cache salt gives a root of its own."""
        salted = 0 if salt is None else int.from_bytes(salt.encode(), "little") + 1
        return hash((self._seed, salted)) & _MASK

    def name(self, token_ids: Sequence[int], parent: int) -> list[int]:
        """Names of the full blocks of ``token_ids``, which follow the block ``parent``.

        Raises kvroute.InvalidArgument for ids that are not integers in [0, 2**32).
        """
        local = hash_blocks(token_ids, self.block_size)
        names = list(accumulate(local, _chain, initial=parent))
        del names[0]
        return names


def _chain(parent: int, local: int) -> int:
    return hash((parent, local)) & _MASK

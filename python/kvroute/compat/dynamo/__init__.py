"""NVIDIA Dynamo's `RadixTree` and `compute_block_hash_for_seq` over kvroute's index.

`from kvroute.compat.dynamo import RadixTree` in place of `from dynamo._core import RadixTree`
(`ai-dynamo-runtime`; compared with 1.6.1). Calls, events, scores, hashes and the dump's format are
theirs. These differences are on purpose:

- A block that is removed and stored again brings back what its worker holds below it. Theirs
  forgets the rest of a removed block's run, and then never matches it again; how much that is
  depends on where other sequences have split the run.
- A chain that comes before its parent waits for it (at most 65,536 blocks do). Theirs drops it with
  a RuntimeError, and warns.
- Workers may name one block differently. Theirs keeps the first worker's name for all: another's
  children then find no parent, and its removals find no block, so that it scores too high for ever.
- A block hash that is announced again for other content stands for that alone. Theirs goes on
  counting the old content, which no event can remove any more.
- `find_matches(..., early_exit=True)` answers in full, as without. Theirs cuts the last worker's
  score off wherever its tree happens to be split.
- `expiration_duration_secs`, which 1.6.1 no longer takes, is what it was in earlier versions: the
  time for which a look-up counts in `frequencies`. It expires no blocks.
- `memory_limit` is kvroute's own: bytes, or a text such as "1GiB". At it the coldest blocks go.
- A hash of a wrong type or beyond 64 bits in `find_matches` is an InvalidArgument (a ValueError);
  theirs are a TypeError and an OverflowError. Events may also be a bytearray or a memoryview, but
  not JSON arrays in place of objects.

What they share: repeated stores count once; a removal that names an unknown block raises
RuntimeError after the others are removed; events and scores know the device's tier only.
"""

from __future__ import annotations

from kvroute.compat.dynamo.block_hash import compute_block_hash_for_seq
from kvroute.compat.dynamo.radix_tree import OverlapScores, RadixTree

__all__ = ["OverlapScores", "RadixTree", "compute_block_hash_for_seq"]

"""KV-cache-aware routing of LLM requests.

`KvRouter` chooses, for each request, the engine that already holds its KV cache and has room to
work; `PrefixIndex` is the index by itself. See the documentation's "embedding" page for how to put
them into a gateway of your own.
"""

from __future__ import annotations

from kvroute._core import (
    AllowedSet,
    ApplyResult,
    Decision,
    Explanation,
    IndexStats,
    InvalidArgument,
    KvRouteError,
    KvRouter,
    NoEligibleWorker,
    Overlaps,
    Overloaded,
    PrefixIndex,
    Reservation,
    RouterStats,
    Selection,
    TargetExplanation,
    TargetStats,
    UnknownWorker,
    VirtualClock,
    __version__,
    build_info,
    decide,
    hash_blocks,
    policy_names,
    policy_needs_tokens,
    score,
    sequence_hashes,
)
from kvroute.python_policy import Features, PythonPolicy

__all__ = [
    "AllowedSet",
    "ApplyResult",
    "Decision",
    "Explanation",
    "Features",
    "IndexStats",
    "InvalidArgument",
    "KvRouteError",
    "KvRouter",
    "NoEligibleWorker",
    "Overlaps",
    "Overloaded",
    "PrefixIndex",
    "PythonPolicy",
    "Reservation",
    "RouterStats",
    "Selection",
    "TargetExplanation",
    "TargetStats",
    "UnknownWorker",
    "VirtualClock",
    "__version__",
    "build_info",
    "decide",
    "hash_blocks",
    "policy_names",
    "policy_needs_tokens",
    "score",
    "sequence_hashes",
]

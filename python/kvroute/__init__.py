"""KV-cache-aware routing of LLM requests.

`KvRouter` chooses, for each request, the engine that already holds its KV cache and has room to
work; `PrefixIndex` is the index by itself. See the documentation's "embedding" page for how to put
them into a gateway of your own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
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
except ImportError as error:  # what needs no native code still works, and may say what is wrong
    _reason = str(error)
    if not TYPE_CHECKING:

        def __getattr__(name: str) -> Any:
            if name in __all__:
                raise ImportError(f"kvroute.{name}: the native module is missing: {_reason}")
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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

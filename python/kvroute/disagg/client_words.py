"""What a client may not say where the router itself has engines hand blocks over.

Engines believe what a request says of a transfer: whose memory to read, which server to ask, at
which rank. From a client that would be a way to addresses that only engines reach, and to other
clients' blocks. Sources of the names: vLLM (``kv_transfer_params``, also in ``vllm_xargs``;
``X-Request-Id`` under P2pNccl) and SGLang (``bootstrap_…``, ``disagg_…``, ``…dp_rank``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ENDINGS = ("_transfer_params", "dp_rank", "data_parallel_rank")
_BEGINNINGS = ("bootstrap_", "disagg_")
_EXTRA = "vllm_xargs"
_ADDRESS_MARKS = ("___prefill_addr_", "___decode_addr_")


def without_transfers(fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """A request's body without every field that speaks of a transfer or picks an engine's rank;
    None where it has no such field."""
    kept = {name: value for name, value in fields.items() if not _is_of_transfers(name)}
    extra = kept.get(_EXTRA)
    if isinstance(extra, dict) and any(map(_is_of_transfers, extra)):
        kept[_EXTRA] = {name: value for name, value in extra.items() if not _is_of_transfers(name)}
    elif len(kept) == len(fields):
        return None
    return kept


def names_addresses(request_id: str) -> bool:
    """Whether P2pNccl's engines would read another engine's address out of it."""
    return any(mark in request_id for mark in _ADDRESS_MARKS)


def _is_of_transfers(name: str) -> bool:
    return name.endswith(_ENDINGS) or name.startswith(_BEGINNINGS)

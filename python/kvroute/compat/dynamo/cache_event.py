"""Dynamo's JSON form of a KV cache event."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, NoReturn

from kvroute._core import InvalidArgument

_MOST_32 = 2**32 - 1
_MOST_64 = 2**64 - 1


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"expected value, got {name}")


_JSON = json.JSONDecoder(parse_constant=_refuse_constant)


class CacheEvent(NamedTuple):
    """What happened on one rank of a worker. The hashes are as they came: unchecked."""

    kind: Literal["stored", "removed", "cleared"]
    dp_rank: int
    parent: int | None = None
    block_hashes: Sequence[int] = ()
    tokens_hashes: Sequence[int] = ()


def parse(event: bytes | bytearray | memoryview) -> CacheEvent:
    """Reads a KvCacheEvent:

    `{"event_id": 0, "data": {"stored": {"parent_hash": null, "blocks": [{"block_hash": 1,
    "tokens_hash": 2}]}}, "dp_rank": 0}`, with `{"removed": {"block_hashes": [1]}}` or `"cleared"`
    as the other kinds of data. InvalidArgument (a ValueError) where it is anything else.
    """
    if not isinstance(event, (bytes, bytearray, memoryview)):
        raise TypeError(f"kv_cache_event_bytes: expected bytes, got {type(event).__name__}")
    if isinstance(event, memoryview) and not event.c_contiguous:
        raise malformed("expected contiguous bytes, got a memoryview with gaps")
    try:
        fields = _JSON.decode(str(event, "utf-8"))
    except (ValueError, RecursionError) as problem:
        raise malformed(str(problem)) from None
    _number(_field(fields, "event_id"), "event_id", _MOST_64)
    data = _field(fields, "data")
    rank = _number(fields.get("dp_rank", 0), "dp_rank", _MOST_32)
    if isinstance(data, str):
        data = {data: None}
    if not isinstance(data, dict) or len(data) != 1:
        raise malformed("data: expected one of `stored`, `removed`, `cleared`")
    ((kind, content),) = data.items()
    if kind == "stored":
        return _stored(rank, content)
    if kind == "removed":
        names = _list(_field(content, "block_hashes"), "block_hashes")
        return CacheEvent("removed", rank, block_hashes=names)
    if kind == "cleared" and content is None:
        return CacheEvent("cleared", rank)
    raise malformed(f"unknown variant `{kind}`, expected one of `stored`, `removed`, `cleared`")


def stored_as_router_event(worker_id: int, event_id: int, event: CacheEvent) -> str:
    """The JSON of a stored event with its worker, as a tree's dump has it."""
    blocks = [
        {"block_hash": name, "tokens_hash": content, "mm_extra_info": None}
        for name, content in zip(event.block_hashes, event.tokens_hashes, strict=True)
    ]
    stored = {"parent_hash": event.parent, "start_position": None, "blocks": blocks}
    router_event = {
        "worker_id": worker_id,
        "storage_tier": "device",
        "residency_domain": "worker",
        "event": {"event_id": event_id, "data": {"stored": stored}, "dp_rank": event.dp_rank},
    }
    return json.dumps(router_event, separators=(",", ":"))


def malformed(problem: str) -> InvalidArgument:
    return InvalidArgument(f"Failed to deserialize KvCacheEvent: {problem}")


def _stored(rank: int, content: Any) -> CacheEvent:
    blocks = _list(_field(content, "blocks"), "blocks")
    parent, start = content.get("parent_hash"), content.get("start_position")
    if parent is not None:
        _number(parent, "parent_hash", _MOST_64)
    if start is not None:
        _number(start, "start_position", _MOST_32)
    return CacheEvent(
        "stored",
        rank,
        parent,
        [_field(block, "block_hash") for block in blocks],
        [_field(block, "tokens_hash") for block in blocks],
    )


def _field(fields: Any, name: str) -> Any:
    if not isinstance(fields, Mapping):
        raise malformed(f"expected an object with `{name}`, got {fields!r}")
    if name not in fields:
        raise malformed(f"missing field `{name}`")
    return fields[name]


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise malformed(f"{name}: expected a sequence, got {value!r}")
    return value


def _number(value: Any, name: str, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise malformed(f"{name}: expected an integer from 0 to {most}, got {value!r}")
    return value

"""Whether KV events come at all from a worker that should publish them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

FIRST_CHECK = 20
"""Answered requests of which each computed a block that was to be announced."""
_MOST_BETWEEN = 1280


class EventWatch:
    """One target's. It asks for the event stream's counters after 20 requests that must have put a
    block into the engine's cache, then after 40, 80, ... and at least every 1,280, until a stored
    block has been announced."""

    def __init__(self) -> None:
        self.heard = False
        self.silent = False
        """No event of use had come when last asked."""
        self._due = FIRST_CHECK
        self.answered = 0

    def note_stored(self) -> bool:
        """The target computed a block; whether the counters are wanted now."""
        if self.heard:
            return False
        self.answered += 1
        return self.answered >= self._due

    def look(self, counters: Mapping[str, int]) -> bool:
        """Takes the counters (`TargetStats.events`); whether `silent` has changed."""
        self._due = self.answered + min(self.answered, _MOST_BETWEEN)
        self.heard = counters.get("stored_blocks", 0) + counters.get("stored_lower", 0) > 0
        was, self.silent = self.silent, not self.heard
        return was != self.silent


def stream_in_words(counters: Mapping[str, int]) -> str:
    """What the counters of an event stream say, in a few words."""
    names = ("batches", "stored_blocks", "removed_blocks", "gaps", "failed_replays")
    told = [f"{counters.get(name, 0):,} {name.replace('_', ' ')}" for name in names]
    for name in ("refused_block_size", "undecodable", "bad_events"):
        if counters.get(name, 0):
            told.append(f"{counters[name]:,} {name.replace('_', ' ')}")
    return ", ".join(["connected" if counters.get("connected") else "not connected", *told])


def why_silent(counters: Mapping[str, int], endpoint: str, block_size: int) -> str:
    """The likely reason that no stored block was announced, by what the counters tell."""
    if counters.get("refused_block_size", 0):
        return (
            f"events come from {endpoint}, but of blocks of another size: --block-size is "
            f"{block_size} and must be the engine's"
        )
    if counters.get("undecodable", 0) or counters.get("bad_events", 0):
        return f"what comes from {endpoint} cannot be read as KV events: is it that port?"
    if not counters.get("connected", 0):
        return (
            f"no publisher answers at {endpoint}. Look at: the address and port in --kv-events "
            "(the engine binds tcp://*:PORT), a firewall, whether the engine publishes at all "
            "(vLLM: --kv-events-config with enable_kv_cache_events and publisher zmq; SGLang: "
            "--kv-events-config)"
        )
    return (
        f"{endpoint} is connected and silent. Look at: enable_kv_cache_events in the engine's "
        "--kv-events-config, its prefix caching (off: nothing is announced), whether the endpoint "
        "is this engine's (the order of --kv-events is that of --static-backends), whether it held "
        "all of this before the router was started without --kv-replay"
    )

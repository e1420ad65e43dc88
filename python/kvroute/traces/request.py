"""One request of a trace, and how a trace names its blocks."""

from __future__ import annotations

from dataclasses import dataclass

TRACE_BLOCK_TOKENS = 512
"""Input tokens that one hash id stands for (Mooncake, FAST'25 release of its traces)."""


class TraceError(ValueError):
    """A trace that cannot be used; the message names the file, the line and the field."""


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request of a conversation trace.

    `timestamp` is in seconds from the trace's start. `input_length` and `output_length` are in
    tokens. `hash_ids` names one block of `TRACE_BLOCK_TOKENS` input tokens each, the last of them
    possibly partial; an id stands for its block and for all that precedes it, so two requests
    share exactly the prompt prefix that their leading equal ids cover.
    """

    timestamp: float
    input_length: int
    output_length: int
    hash_ids: tuple[int, ...]

    @property
    def full_blocks(self) -> int:
        """How many of the leading blocks are full: all, or all but the last."""
        return self.input_length // TRACE_BLOCK_TOKENS


def blocks_for(input_length: int) -> int:
    """The number of hash ids of a prompt of `input_length` tokens."""
    return -(-input_length // TRACE_BLOCK_TOKENS)

"""A trace's requests for simulated engines: prompts as tokens, and answers that go on.

A trace names the blocks of prompts and says how long answers were, not what they were. Where a
later prompt begins with the full blocks of an earlier one that nobody else had until then, and has
room for its answer, it is taken for the conversation's next turn: the earlier prompt's last,
partial block and its answer are then what the later prompt has in these places. Every other answer
is made up, and never asked for again.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import kvroute
from kvroute.traces import TRACE_BLOCK_TOKENS, PromptBuilder, TraceRequest


@dataclass(frozen=True)
class Request:
    """`names` has one name for each full block of prompt and answer, whoever asks for it.
    `conversation` is the place in the trace of the request that the conversation began with."""

    arrival: float
    prompt: array[int]
    output: array[int]
    names: list[int]
    conversation: int


class Conversations:
    """Makes the requests of a trace, in order; the same each time."""

    def __init__(self, trace: list[TraceRequest], block_size: int) -> None:
        self._trace = trace
        self._block_size = block_size
        self._builder = PromptBuilder(cached_blocks=1024)
        self._next_turn = _next_turns(trace)
        self._endings: list[array[int]] = [array("I")] * len(trace)  # from the last full block on
        for i in reversed(range(len(trace))):
            self._endings[i] = self._ending(i)

    @property
    def continued(self) -> int:
        """How many requests have a next turn."""
        return len(self._next_turn)

    def __iter__(self) -> Iterator[Request]:
        begun_by = list(range(len(self._trace)))
        for i, request in enumerate(self._trace):
            if i in self._next_turn:
                begun_by[self._next_turn[i]] = begun_by[i]
            tokens = self._blocks(i, request.full_blocks) + self._endings[i]
            names = kvroute.sequence_hashes(kvroute.hash_blocks(tokens, self._block_size))
            length = request.input_length
            prompt, output = tokens[:length], tokens[length:]
            yield Request(request.timestamp, prompt, output, names.tolist(), begun_by[i])

    def _blocks(self, i: int, count: int) -> array[int]:
        ids = self._trace[i].hash_ids[:count]
        return self._builder.prompt(TraceRequest(0.0, count * TRACE_BLOCK_TOKENS, 0, ids))

    def _ending(self, i: int) -> array[int]:
        request = self._trace[i]
        begin = request.full_blocks * TRACE_BLOCK_TOKENS
        end = request.input_length + max(1, request.output_length)
        if i in self._next_turn:
            later = self._next_turn[i]
            full = self._trace[later].full_blocks
            prompt = self._blocks(later, full) + self._endings[later]
            return prompt[begin:end]
        tail = self._builder.prompt(request)[begin:]
        numbers = random.Random(i)
        length = max(1, request.output_length)
        return tail + array("I", numbers.choices(range(self._builder.vocab_size), k=length))


def _next_turns(trace: list[TraceRequest]) -> dict[int, int]:
    """For each request that has one, the request that goes on with its conversation."""
    next_turn: dict[int, int] = {}
    last_of: dict[int, int] = {}  # a hash id -> the only request so far that has it, or -1
    for later, request in enumerate(trace):
        full = request.hash_ids[: request.full_blocks]
        for depth, hash_id in reversed(list(enumerate(full, 1))):
            if hash_id not in last_of:
                continue
            earlier = last_of[hash_id]
            if earlier >= 0 and earlier not in next_turn:
                before = trace[earlier]
                goes_on = before.full_blocks == depth and before.timestamp < request.timestamp
                length = before.input_length + max(1, before.output_length)
                if goes_on and length <= request.input_length:
                    next_turn[earlier] = later
            break
        for hash_id in full:
            last_of[hash_id] = later if hash_id not in last_of else -1
    return next_turn

"""A seeded stand-in for the Mooncake conversation trace, for machines that do not have it.

It has that trace's statistics (computed from the file): bursts every 3 s, mean input 12,035 and
mean output 343 tokens with heavy tails, mean 24 blocks of 512 tokens, block 0 shared by every
request, and conversations that grow over several turns such that one infinite cache hits 36.6 %
of all blocks of its 12,031 requests.
"""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field

from kvroute.traces.request import TRACE_BLOCK_TOKENS, TraceRequest, blocks_for

FULL_TRACE_REQUESTS = 12_031

_BURST_SECONDS = 3.0
_REQUESTS_PER_BURST = 10.2
_MIN_INPUT, _MAX_INPUT = 891, 126_195
_MAX_OUTPUT = 2_000

# Medians and sigmas of log-normal distributions.
_OPENING_TOKENS = (5_200.0, 1.23)
_SHORT_TURN_TOKENS = (24.0, 0.9)
_DOCUMENT_TURN_TOKENS = (2_600.0, 1.05)
_PAUSE_SECONDS = (90.0, 1.08)
_LONG_ANSWER_TOKENS = (900.0, 0.35)

_DOCUMENT_TURN_SHARE = 0.28
_LOYAL_SHARE = 0.078
_LOYAL_CONTINUES = 0.82
_OTHERS_CONTINUE = 0.20


@dataclass(order=True, slots=True)
class _Turn:
    due: float
    order: int
    hash_ids: tuple[int, ...] = field(compare=False)
    input_length: int = field(compare=False)
    loyal: bool = field(compare=False)


def generate_trace(requests: int = FULL_TRACE_REQUESTS, seed: int = 0) -> list[TraceRequest]:
    """The first `requests` requests of the generated trace of `seed`.

    A shorter trace is a prefix of a longer one of the same seed. As in the real trace, the cache
    hit rate grows with the length: the first minutes hold few later turns.
    """
    if requests < 1:
        raise ValueError(f"requests: expected at least 1, got {requests}")
    return _Generator(seed).run(requests)


class _Generator:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._due: list[_Turn] = []
        self._next_id = 1
        self._turns = 0

    def run(self, count: int) -> list[TraceRequest]:
        trace: list[TraceRequest] = []
        burst = 0
        while len(trace) < count:
            now = burst * _BURST_SECONDS
            for _ in range(self._burst_size()):
                trace.append(self._request(now))
            burst += 1
        return trace[:count]

    def _request(self, now: float) -> TraceRequest:
        turn = heapq.heappop(self._due) if self._due and self._due[0].due <= now else self._open()
        output_length = self._output_length()
        self._schedule_next(turn, now, output_length)
        return TraceRequest(now, turn.input_length, output_length, turn.hash_ids)

    def _open(self) -> _Turn:
        input_length = min(max(round(self._log_normal(_OPENING_TOKENS)), _MIN_INPUT), _MAX_INPUT)
        loyal = self._random.random() < _LOYAL_SHARE
        return self._turn(0.0, (0,), input_length, loyal)

    def _schedule_next(self, turn: _Turn, now: float, output_length: int) -> None:
        chance = _LOYAL_CONTINUES if turn.loyal else _OTHERS_CONTINUE
        if self._random.random() >= chance:
            return
        document = self._random.random() < _DOCUMENT_TURN_SHARE
        message = self._log_normal(_DOCUMENT_TURN_TOKENS if document else _SHORT_TURN_TOKENS)
        input_length = turn.input_length + output_length + max(1, round(message))
        if input_length > _MAX_INPUT:
            return
        shared = turn.hash_ids[: turn.input_length // TRACE_BLOCK_TOKENS]
        due = now + self._log_normal(_PAUSE_SECONDS)
        heapq.heappush(self._due, self._turn(due, shared, input_length, turn.loyal))

    def _turn(self, due: float, shared: tuple[int, ...], input_length: int, loyal: bool) -> _Turn:
        fresh = blocks_for(input_length) - len(shared)
        hash_ids = shared + tuple(range(self._next_id, self._next_id + fresh))
        self._next_id += fresh
        self._turns += 1
        return _Turn(due, self._turns, hash_ids, input_length, loyal)

    def _output_length(self) -> int:
        kind = self._random.random()
        if kind < 0.22:
            tokens = self._random.uniform(1.0, 120.0)
        elif kind < 0.97:
            tokens = self._random.gauss(400.0, 120.0)
        else:
            tokens = self._log_normal(_LONG_ANSWER_TOKENS)
        return min(max(round(tokens), 1), _MAX_OUTPUT)

    def _burst_size(self) -> int:
        """Poisson (Knuth's product of uniforms), at least 1."""
        bound, product, size = math.exp(-_REQUESTS_PER_BURST), self._random.random(), 0
        while product > bound:
            product *= self._random.random()
            size += 1
        return max(1, size)

    def _log_normal(self, shape: tuple[float, float]) -> float:
        middle, sigma = shape
        return middle * math.exp(sigma * self._random.gauss(0.0, 1.0))

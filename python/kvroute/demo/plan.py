"""What a demo runs: the trace, its compression and scaling, the engines and the policies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

POLICIES = ("round_robin", "kv_cost", "kv_delay")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPlan:
    """Settings of one demo. Times in seconds, lengths in tokens.

    The defaults take about 110 s and a quarter of two slow cores, so that the times to first token
    come from the simulated engines and not from Python. Engines run their default cost model (a
    70 B model on four H100), sped up by `compression`. The default caches are neither ample nor
    hopeless: four of them have room for a little more than half of the distinct tokens of the
    conversation trace's first 1,000 requests.

    Attributes:
        requests: how many of the trace's requests are replayed.
        trace: a trace file; None for the one that is found, or a generated one.
        policies: routing policies, each replayed on fresh engines.
        engines: number of engines.
        compression: trace time per wall time; arrivals and engines are sped up alike.
        length_scale: fraction of each block's, and of each answer's, tokens that is kept.
        block_size: tokens a block of an engine's cache.
        num_blocks: blocks of one engine's cache.
        tokens_per_chunk: generated tokens that share one streamed chunk.
        max_in_flight: requests under way at once; more wait on the client, and are counted.
        request_timeout: bound of one request, in wall seconds.
        start_timeout: bound of starting all processes.
        deadline: bound of the whole demo but for the time that `keep` leaves it running.
        keep: leave the last policy's processes running after its replay.
        seed: of token ids, of a generated trace.
    """

    requests: int = 1000
    trace: Path | None = None
    policies: tuple[str, ...] = POLICIES
    engines: int = 4
    compression: float = 10.0
    length_scale: float = 0.5
    block_size: int = 16
    num_blocks: int = 48_000
    tokens_per_chunk: int = 8
    max_in_flight: int = 512
    request_timeout: float = 60.0
    start_timeout: float = 30.0
    deadline: float = 175.0
    keep: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "requests",
            "engines",
            "block_size",
            "num_blocks",
            "tokens_per_chunk",
            "max_in_flight",
        ):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        for name in ("compression", "request_timeout", "start_timeout", "deadline"):
            value = getattr(self, name)
            if not 0.0 < value < float("inf"):
                raise ValueError(f"{name}: expected a finite number > 0, got {value}")
        if not 0.0 < self.length_scale <= 1.0:
            raise ValueError(f"length_scale: expected a number in (0, 1], got {self.length_scale}")
        if not self.policies or len(set(self.policies)) != len(self.policies):
            raise ValueError(f"policies: expected different names, got {list(self.policies)}")

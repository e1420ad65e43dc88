"""The settings of one simulated engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from kvroute.engines.cost_model import CostModel
from kvroute.engines.errors import InvalidConfigError
from kvroute.engines.events import EventFormat

CachedReports: TypeAlias = Literal["always", "hits", "never"]
"""When an answer's usage tells the prompt's cached tokens: always (TensorRT-LLM); only where there
are any (vLLM and SGLang, with their flags for it); never (both without)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """What an engine is and where it listens. Endpoints with port 0 are chosen by the system.

    Attributes:
        model: the name that requests give.
        block_size: tokens a block of the KV cache.
        num_blocks: blocks in the KV cache.
        host, port: of the HTTP server.
        kv_events, kv_replay, load_events: ZMQ endpoints, None for none; without kv_events there is
            no kv_replay either.
        kv_events_connect: connect the event and load sockets instead of binding them.
        topic: first frame of every event batch.
        event_format: how events are encoded.
        hash_seed: seed of the engine's block hashes; None draws one, so that engines differ.
        tokenizer: a tokenizer's directory; None for the built-in byte tokenizer.
        max_num_seqs, max_num_batched_tokens, max_model_len: as the scheduler takes them;
            max_model_len None means 131,072, or what the cache holds if that is less.
        max_waiting: requests that may wait; more are answered 503.
        tokens_per_chunk: tokens that share a streamed chunk; a stream's first token and its end
            never wait for more.
        buffer_steps: event batches kept for replay.
        report_cached: when answers tell their cached tokens.
        cost: how long steps take, with the speed-up.
    """

    model: str = "mock"
    block_size: int = 16
    num_blocks: int = 4096
    host: str = "127.0.0.1"
    port: int = 0
    kv_events: str | None = "tcp://127.0.0.1:0"
    kv_replay: str | None = "tcp://127.0.0.1:0"
    load_events: str | None = "tcp://127.0.0.1:0"
    kv_events_connect: bool = False
    topic: str = ""
    event_format: EventFormat = EventFormat.MAP
    hash_seed: int | None = None
    tokenizer: Path | None = None
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    max_model_len: int | None = None
    max_waiting: int = 4096
    tokens_per_chunk: int = 1
    buffer_steps: int = 10_000
    report_cached: CachedReports = "always"
    cost: CostModel = field(default_factory=CostModel)

    def __post_init__(self) -> None:
        for name in ("block_size", "num_blocks", "tokens_per_chunk", "buffer_steps", "max_waiting"):
            value = getattr(self, name)
            if value < 1:
                raise InvalidConfigError(f"{name}: expected at least 1, got {value}")
        if not self.model:
            raise InvalidConfigError("model: expected a name, got none")
        if not 0 <= self.port < 65536:
            raise InvalidConfigError(f"port: expected 0 to 65535, got {self.port}")

"""The settings of one simulated engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal, TypeAlias

from kvroute.engines.cost_model import CostModel
from kvroute.engines.errors import InvalidConfigError
from kvroute.engines.events import EventFormat

CachedReports: TypeAlias = Literal["always", "hits", "never"]
"""When an answer's usage tells the prompt's cached tokens: always (TensorRT-LLM); only where there
are any (vLLM and SGLang, with their flags for it); never (both without)."""
CONNECTORS = ("nixl", "lmcache", "sglang", "mooncake", "p2p_nccl", "shared_storage")
NOTICES = ("ProxyNotif", "PDMsg")


class KvRole(Enum):
    """Which part of a request an engine with a connector may serve."""

    BOTH = "both"
    PREFILL = "prefill"
    DECODE = "decode"

    @classmethod
    def parse(cls, name: str) -> KvRole:
        """Of our names or vLLM's (kv_both, kv_producer, kv_consumer); InvalidConfigError."""
        names = {"kv_both": "both", "kv_producer": "prefill", "kv_consumer": "decode"}
        try:
            return cls(names.get(name, name))
        except ValueError:
            expected = ", ".join(role.value for role in cls)
            raise InvalidConfigError(f"kv_role: expected one of {expected}, got {name!r}") from None


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
        words: what it says; empty for the built-in English ones.
        max_num_seqs, max_num_batched_tokens, max_model_len: as the scheduler takes them;
            max_model_len None means 131,072, or what the cache holds if that is less.
        max_waiting: requests that may wait; more are answered 503.
        tokens_per_chunk: tokens that share a streamed chunk; a stream's first token and its end
            never wait for more.
        buffer_steps: event batches kept for replay.
        report_cached: when answers tell their cached tokens.
        cost: how long steps and transfers take, with the speed-up.
        kv_connector: the protocol by which prefill and decode engines hand blocks over, one of
            CONNECTORS; None for none.
        kv_role: the engine's part in it.
        kv_port: of its data plane (of SGLang's and Mooncake's bootstrap server too).
        kv_init_ports, kv_alloc_ports: LMCache's receiver ports, one for each TP rank; empty lets
            the system choose.
        kv_proxy_host, kv_proxy_port: the router's socket for LMCache's notices.
        kv_notice: the type that a notice says it is, one of NOTICES.
        kv_shared_path: the directory of shared storage.
        tensor_parallel_size: ranks; LMCache hands over rank by rank.
        transfer_expiry: seconds for which blocks are kept for an engine that does not come.
        rendezvous_timeout: seconds for which one leg waits for the other.
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
    words: tuple[str, ...] = ()
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    max_model_len: int | None = None
    max_waiting: int = 4096
    tokens_per_chunk: int = 1
    buffer_steps: int = 10_000
    report_cached: CachedReports = "always"
    cost: CostModel = field(default_factory=CostModel)
    kv_connector: str | None = None
    kv_role: KvRole = KvRole.BOTH
    kv_port: int = 0
    kv_init_ports: tuple[int, ...] = ()
    kv_alloc_ports: tuple[int, ...] = ()
    kv_proxy_host: str = "127.0.0.1"
    kv_proxy_port: int | None = None
    kv_notice: str = "ProxyNotif"
    kv_shared_path: Path | None = None
    tensor_parallel_size: int = 1
    transfer_expiry: float = 480.0
    rendezvous_timeout: float = 300.0

    def __post_init__(self) -> None:
        for name in (
            "block_size",
            "num_blocks",
            "tokens_per_chunk",
            "buffer_steps",
            "max_waiting",
            "tensor_parallel_size",
        ):
            value = getattr(self, name)
            if value < 1:
                raise InvalidConfigError(f"{name}: expected at least 1, got {value}")
        if not self.model:
            raise InvalidConfigError("model: expected a name, got none")
        for name, port in self._ports():
            if not 0 <= port < 65536:
                raise InvalidConfigError(f"{name}: expected 0 to 65535, got {port}")
        for name in ("transfer_expiry", "rendezvous_timeout"):
            seconds = getattr(self, name)
            if not 0 < seconds < float("inf"):
                raise InvalidConfigError(f"{name}: expected more than 0, got {seconds}")
        self._check_connector()

    def _ports(self) -> list[tuple[str, int]]:
        ports = [("port", self.port), ("kv_port", self.kv_port)]
        for name in ("kv_init_ports", "kv_alloc_ports"):
            ports += [(name, port) for port in getattr(self, name)]
        if self.kv_proxy_port is not None:
            ports.append(("kv_proxy_port", self.kv_proxy_port))
        return ports

    def _check_connector(self) -> None:
        if self.kv_connector is not None and self.kv_connector not in CONNECTORS:
            expected = ", ".join(CONNECTORS)
            raise InvalidConfigError(
                f"kv_connector: expected one of {expected}, got {self.kv_connector!r}"
            )
        if self.kv_notice not in NOTICES:
            raise InvalidConfigError(
                f"kv_notice: expected one of {', '.join(NOTICES)}, got {self.kv_notice!r}"
            )
        for name in ("kv_init_ports", "kv_alloc_ports"):
            count = len(getattr(self, name))
            if count not in {0, self.tensor_parallel_size}:
                raise InvalidConfigError(
                    f"{name}: expected one for each of {self.tensor_parallel_size} ranks, "
                    f"got {count}"
                )
        if self.kv_connector == "shared_storage" and self.kv_shared_path is None:
            raise InvalidConfigError("kv_shared_path: expected with shared_storage, got none")
        is_sender = self.kv_role is not KvRole.DECODE
        if self.kv_connector == "lmcache" and is_sender and self.kv_proxy_port is None:
            raise InvalidConfigError("kv_proxy_port: expected of an LMCache sender, got none")

"""``kvroute mock``: a simulated engine as a process."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class _EventFormat(str, Enum):
    MAP = "map"
    ARRAY = "array"


class _CachedReports(str, Enum):
    ALWAYS = "always"
    HITS = "hits"
    NEVER = "never"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("mock")(mock)


def mock(
    host: Annotated[str, typer.Option(help="Address of the HTTP server.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Its port; 0 is chosen by the system.")] = 8000,
    model: Annotated[str, typer.Option(help="Name of the served model.")] = "mock",
    block_size: Annotated[int, typer.Option(help="Tokens a KV block.")] = 16,
    num_blocks: Annotated[int, typer.Option(help="Blocks in the KV cache.")] = 4096,
    kv_events: Annotated[
        str | None, typer.Option(help="Endpoint of the KV event PUB socket.")
    ] = None,
    kv_replay: Annotated[
        str | None, typer.Option(help="Endpoint of the replay ROUTER socket.")
    ] = None,
    load_events: Annotated[
        str | None, typer.Option(help="Endpoint of the load PUB socket.")
    ] = None,
    kv_events_connect: Annotated[
        bool, typer.Option("--kv-events-connect", help="Connect the PUB sockets, not bind them.")
    ] = False,
    topic: Annotated[str, typer.Option(help="First frame of every event batch.")] = "",
    event_format: Annotated[
        _EventFormat, typer.Option(help="Events as maps (vLLM >= 0.24) or arrays (before).")
    ] = _EventFormat.MAP,
    hash_seed: Annotated[
        int | None, typer.Option(help="Seed of the block hashes; drawn when not given.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="A tokenizer's directory; bytes are the tokens without.")
    ] = None,
    speed: Annotated[float, typer.Option(help="Divides every duration of the cost model.")] = 1.0,
    base_step: Annotated[float, typer.Option(help="Seconds that every step takes.")] = 0.012,
    prefill_tokens_per_second: Annotated[
        float, typer.Option(help="Throughput of prefill without attention.")
    ] = 12_000.0,
    per_attention_pair: Annotated[
        float, typer.Option(help="Seconds for a prefilled token and each one before it.")
    ] = 1.7e-9,
    max_num_seqs: Annotated[int, typer.Option(help="Most sequences in a batch.")] = 256,
    max_num_batched_tokens: Annotated[int, typer.Option(help="Most tokens in a step.")] = 8192,
    max_model_len: Annotated[
        int | None, typer.Option(help="Most tokens of prompt and output together.")
    ] = None,
    tokens_per_chunk: Annotated[int, typer.Option(help="Tokens that share a streamed chunk.")] = 1,
    buffer_steps: Annotated[int, typer.Option(help="Event batches kept for replay.")] = 10_000,
    report_cached: Annotated[
        _CachedReports, typer.Option(help="When an answer's usage tells its cached tokens.")
    ] = _CachedReports.ALWAYS,
    kv_connector: Annotated[
        str | None, typer.Option(help="nixl, lmcache, sglang, mooncake, p2p_nccl, shared_storage.")
    ] = None,
    kv_role: Annotated[
        str, typer.Option(help="both, prefill (kv_producer) or decode (kv_consumer).")
    ] = "both",
    kv_port: Annotated[
        int, typer.Option(help="Port of the data plane or bootstrap server; 0: the system's.")
    ] = 0,
    kv_init_ports: Annotated[
        str, typer.Option(help="LMCache's receiver init ports, one a rank, with commas.")
    ] = "",
    kv_alloc_ports: Annotated[str, typer.Option(help="Its alloc ports, likewise.")] = "",
    kv_proxy_host: Annotated[str, typer.Option(help="Host of the router's socket.")] = "127.0.0.1",
    kv_proxy_port: Annotated[
        int | None, typer.Option(help="The router's socket: LMCache's notices, P2P's heartbeat.")
    ] = None,
    kv_notice: Annotated[
        str, typer.Option(help="Type of LMCache's notices: ProxyNotif or PDMsg.")
    ] = "ProxyNotif",
    kv_shared_path: Annotated[
        Path | None, typer.Option(help="The directory of shared_storage.")
    ] = None,
    tensor_parallel_size: Annotated[int, typer.Option(help="Ranks of the engine.")] = 1,
    transfer_expiry: Annotated[
        float, typer.Option(help="Seconds for which blocks are kept for an engine to come.")
    ] = 480.0,
    rendezvous_timeout: Annotated[
        float, typer.Option(help="Seconds for which one leg waits for the other.")
    ] = 300.0,
    transfer_bandwidth: Annotated[
        float, typer.Option(help="Bytes a second from engine to engine, at speed 1.")
    ] = 50e9,
    kv_bytes_per_token: Annotated[
        float, typer.Option(help="Bytes of one token's KV cache, for transfers.")
    ] = 327_680.0,
) -> None:
    """Run a simulated engine: OpenAI HTTP, KV events with replay, load events.

    Prints one JSON line with its addresses when it is ready; ends on SIGTERM or SIGINT.
    """
    from kvroute.engines.config import EngineConfig, KvRole
    from kvroute.engines.cost_model import CostModel
    from kvroute.engines.errors import InvalidConfigError
    from kvroute.engines.events import EventFormat
    from kvroute.engines.server import run

    if kv_replay is not None and kv_events is None:
        raise typer.BadParameter("expected --kv-events beside it", param_hint="--kv-replay")
    try:
        config = EngineConfig(
            model=model,
            block_size=block_size,
            num_blocks=num_blocks,
            host=host,
            port=port,
            kv_events=kv_events,
            kv_replay=kv_replay,
            load_events=load_events,
            kv_events_connect=kv_events_connect,
            topic=topic,
            event_format=EventFormat(event_format.value),
            hash_seed=hash_seed,
            tokenizer=tokenizer,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            max_model_len=max_model_len,
            tokens_per_chunk=tokens_per_chunk,
            buffer_steps=buffer_steps,
            report_cached=report_cached.value,
            cost=CostModel(
                base_step=base_step,
                prefill_tokens_per_second=prefill_tokens_per_second,
                per_attention_pair=per_attention_pair,
                kv_bytes_per_token=kv_bytes_per_token,
                transfer_bandwidth=transfer_bandwidth,
                speed=speed,
            ),
            kv_connector=kv_connector,
            kv_role=KvRole.parse(kv_role),
            kv_port=kv_port,
            kv_init_ports=_ports(kv_init_ports, "--kv-init-ports"),
            kv_alloc_ports=_ports(kv_alloc_ports, "--kv-alloc-ports"),
            kv_proxy_host=kv_proxy_host,
            kv_proxy_port=kv_proxy_port,
            kv_notice=kv_notice,
            kv_shared_path=kv_shared_path,
            tensor_parallel_size=tensor_parallel_size,
            transfer_expiry=transfer_expiry,
            rendezvous_timeout=rendezvous_timeout,
        )
        run(config, sys.stdout)
    except (InvalidConfigError, OSError) as error:
        print(f"kvroute mock: {error}", file=sys.stderr)
        raise typer.Exit(2) from error


def _ports(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise typer.BadParameter("expected ports with commas", param_hint=option) from None

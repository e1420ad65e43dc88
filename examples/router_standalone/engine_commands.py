"""Command lines of the engines that the standalone example starts."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

VLLM_PLUGIN = Path(__file__).resolve().parent / "vllm_plugin"


@dataclass(frozen=True)
class EngineSettings:
    """One engine: what it serves, and on which ports it tells of its cache and load.

    `tokenizer` (a directory) and `speed` (times real time) concern simulated engines only.
    """

    index: int
    model: str
    block_size: int
    host: str
    kv_events_port: int
    kv_replay_port: int
    metrics_port: int
    tokenizer: str | None
    speed: float


def simulated_command(engine: EngineSettings) -> list[str]:
    """`kvroute mock` on an HTTP port that the system chooses and its ready line names."""
    command = [sys.executable, "-m", "kvroute", "mock"]
    command += ["--host", engine.host, "--port", "0", "--model", engine.model]
    command += ["--block-size", str(engine.block_size), "--speed", str(engine.speed)]
    command += ["--kv-events", f"tcp://{engine.host}:{engine.kv_events_port}"]
    command += ["--kv-replay", f"tcp://{engine.host}:{engine.kv_replay_port}"]
    command += ["--load-events", f"tcp://{engine.host}:{engine.metrics_port}"]
    if engine.tokenizer is not None:
        command += ["--tokenizer", engine.tokenizer]
    return command


def vllm_command(engine: EngineSettings, http_port: int) -> list[str]:
    """`vllm serve` with KV events.

    vLLM's publisher binds only an endpoint with a `*` (all interfaces) and connects to any other.
    """
    events = {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": f"tcp://*:{engine.kv_events_port}",
        "replay_endpoint": f"tcp://*:{engine.kv_replay_port}",
    }
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", engine.model]
    command += ["--host", engine.host, "--port", str(http_port)]
    command += ["--block-size", str(engine.block_size), "--enable-prefix-caching"]
    command += ["--enable-prompt-tokens-details", "--kv-events-config", json.dumps(events)]
    return command


def vllm_env(engine: EngineSettings, base: Mapping[str, str]) -> dict[str, str]:
    """GPU number = worker number, and the plug-in that publishes the engine's load."""
    path = os.pathsep.join(filter(None, [str(VLLM_PLUGIN), base.get("PYTHONPATH")]))
    return {
        **base,
        "CUDA_VISIBLE_DEVICES": str(engine.index),
        "PYTHONPATH": path,
        "KVROUTE_LOAD_ENDPOINT": f"tcp://*:{engine.metrics_port}",
        "VLLM_NO_USAGE_STATS": "1",
    }


def free_port(host: str) -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])

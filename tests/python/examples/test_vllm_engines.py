"""The example's vLLM engines, with a stand-in for vLLM: its command line and its plug-in group."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from example_harness import MODEL, StandaloneExample, eventually, held_blocks, worker_states

pytestmark = pytest.mark.timeout(120)

STAND_IN = '''
"""Serves what `vllm serve` would: a simulated engine under vLLM's flags and plug-ins."""
import argparse, importlib.metadata, json, os, sys, threading, time, types

parser = argparse.ArgumentParser()
parser.add_argument("command", choices=["serve"])
parser.add_argument("model")
for flag in ("--host", "--port", "--block-size", "--kv-events-config"):
    parser.add_argument(flag, required=True)
parser.add_argument("--enable-prefix-caching", action="store_true", required=True)
parser.add_argument("--enable-prompt-tokens-details", action="store_true", required=True)
args = parser.parse_args()
events = json.loads(args.kv_events_config)
assert events["enable_kv_cache_events"] and events["publisher"] == "zmq"
assert os.environ["CUDA_VISIBLE_DEVICES"] in "01"

(plugin,) = importlib.metadata.entry_points(group="vllm.stat_logger_plugins")
logger = plugin.load()(None, 0)
logger.log_engine_initialized()

def record():
    stats = types.SimpleNamespace(num_waiting_reqs=7, kv_cache_usage=0.25)
    while True:
        logger.record(None, None, mm_cache_stats=None, engine_idx=0)
        logger.record(scheduler_stats=stats, iteration_stats=None, engine_idx=0)
        time.sleep(0.05)

threading.Thread(target=record, daemon=True).start()
sys.argv = ["kvroute", "mock", "--model", args.model, "--host", args.host, "--port", args.port]
sys.argv += ["--block-size", args.block_size, "--speed", "20"]
sys.argv += ["--kv-events", events["endpoint"], "--kv-replay", events["replay_endpoint"]]
from kvroute.cli import main
main()
'''

LOGGERS = """
from abc import ABC, abstractmethod

class StatLoggerBase(ABC):
    @abstractmethod
    def __init__(self, vllm_config, engine_index=0): ...
    @abstractmethod
    def record(self, scheduler_stats, iteration_stats, mm_cache_stats=None, engine_idx=0): ...
    @abstractmethod
    def log_engine_initialized(self): ...
"""


@pytest.fixture
def stand_in_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("vllm", "vllm/entrypoints/cli", "vllm/v1/metrics"):
        (tmp_path / package).mkdir(parents=True, exist_ok=True)
    (tmp_path / "vllm" / "__init__.py").touch()
    (tmp_path / "vllm" / "entrypoints" / "cli" / "main.py").write_text(STAND_IN)
    (tmp_path / "vllm" / "v1" / "metrics" / "loggers.py").write_text(LOGGERS)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)


@pytest.mark.usefixtures("stand_in_vllm")
async def test_vllm_engines_are_started_watched_and_used(
    start_standalone: Callable[..., StandaloneExample], http: aiohttp.ClientSession
) -> None:
    example = start_standalone("--engine", "vllm")

    async def load_is_known() -> bool:
        states = await worker_states(http, example.router_url)
        return all(state["kv_usage"] == 0.25 and state["waiting"] >= 7 for state in states)

    await eventually(load_is_known, what="the plug-in's reports arrive")
    body = {"model": MODEL, "prompt": list(range(641)), "max_tokens": 1}
    async with http.post(f"{example.url}/v1/completions", json=body) as response:
        assert response.status == 200
        worker = int(response.headers["x-kvroute-worker"])

    async def announced() -> bool:
        return await held_blocks(http, example.router_url, worker) == 10

    await eventually(announced, what="the KV events arrive")


@pytest.mark.usefixtures("stand_in_vllm")
def test_vllm_is_taken_where_it_is_installed(
    start_standalone: Callable[..., StandaloneExample],
) -> None:
    example = start_standalone("--engine", "auto")
    command = Path(f"/proc/{example.engine_pids[0]}/cmdline").read_bytes().split(b"\0")
    assert b"vllm.entrypoints.cli.main" in command

"""A simulated engine as a process: says when it is ready, ends on a signal."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TextIO

import orjson

from kvroute.engines.config import EngineConfig
from kvroute.engines.engine import SimulatedEngine


async def serve(config: EngineConfig, out: TextIO) -> None:
    """Run an engine until SIGTERM or SIGINT; prints one JSON line to ``out`` when it is ready."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    async with SimulatedEngine(config) as engine:
        ready = {
            "event": "ready",
            "http": engine.http_url,
            "kv_events": engine.kv_events,
            "kv_replay": engine.kv_replay,
            "load_events": engine.load_events,
            "kv_transfer": engine.kv_transfer,
            "model": config.model,
            "block_size": config.block_size,
            "num_blocks": config.num_blocks,
            "pid": os.getpid(),
        }
        print(orjson.dumps(ready).decode(), file=out, flush=True)
        await stop.wait()


def run(config: EngineConfig, out: TextIO) -> None:
    """`serve` on a new uvloop."""
    import uvloop

    uvloop.run(serve(config, out))

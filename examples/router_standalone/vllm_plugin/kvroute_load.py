"""A vLLM stat logger that publishes the engine's load for a router.

vLLM loads it by itself (entry point group `vllm.stat_logger_plugins`) when this directory is on
PYTHONPATH; the *.dist-info directory beside this file declares the entry point. It publishes after
each engine step, as one JSON frame on a PUB socket bound to KVROUTE_LOAD_ENDPOINT:

    {"num_waiting_reqs": 0, "kv_cache_usage": 0.25}
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

import zmq
from vllm.v1.metrics.loggers import StatLoggerBase

_ENDPOINT = "KVROUTE_LOAD_ENDPOINT"


class LoadPublisher(StatLoggerBase):  # type: ignore[misc]
    """One of each data-parallel rank; rank r binds the endpoint's port + r."""

    def __init__(self, _vllm_config: Any, engine_index: int = 0) -> None:
        base, _, port = os.environ.get(_ENDPOINT, "tcp://*:5657").rpartition(":")
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
        self._socket.setsockopt(zmq.SNDHWM, 16)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(f"{base}:{int(port) + engine_index}")

    def record(self, scheduler_stats: Any, *_: Any, **__: Any) -> None:
        """Called after each step; a report that cannot be sent is dropped, the next one counts."""
        if scheduler_stats is None:
            return
        report = {
            "num_waiting_reqs": scheduler_stats.num_waiting_reqs,
            "kv_cache_usage": scheduler_stats.kv_cache_usage,
        }
        with contextlib.suppress(zmq.Again):
            self._socket.send_json(report, zmq.NOBLOCK)

    def log_engine_initialized(self) -> None:
        """Nothing to say."""

"""A local Ray cluster, Serve on it, applications on that."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import orjson
import ray
from ray import serve

READY_TIMEOUT = 120.0
_OBJECT_STORE = 200 << 20
_MAX_BODY = 1 << 20


@contextmanager
def ray_cluster() -> Iterator[None]:
    """A local cluster of its own, which has ended on exit."""
    # Its processes import what this one can.
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "30")  # a busy machine's
    # The folder's path is short, since sockets lie in it.
    with TemporaryDirectory(prefix="kvr-", ignore_cleanup_errors=True) as folder:
        try:
            ray.init(
                address="local",
                num_cpus=os.cpu_count(),
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE,
                log_to_driver=False,
                logging_level="ERROR",
                _temp_dir=folder,
            )
            yield
        finally:
            ray.shutdown()


@contextmanager
def serving() -> Iterator[str]:
    """Serve on the running cluster; the URL of its proxy, on a port of the system's choice."""
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    port = _free_port()
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()


@contextmanager
def deployed(root: str, name: str, application: Any) -> Iterator[str]:
    """The application's URL below that of `serving`, while it is entered; it serves on entry."""
    serve.run(application, name=name, route_prefix=f"/{name}")
    url = f"{root}/{name}"
    asyncio.run(_answers(url))
    try:
        yield url
    finally:
        serve.delete(name)


async def _answers(url: str) -> None:
    """Returns when completions are answered; these have no full block, so no cache holds them."""
    body = orjson.dumps({"prompt": [1, 2, 3], "max_tokens": 1})
    deadline = time.monotonic() + READY_TIMEOUT
    timeout = aiohttp.ClientTimeout(total=READY_TIMEOUT / 4)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        said = ""
        while time.monotonic() < deadline:
            try:
                async with session.post(f"{url}/v1/completions", data=body) as response:
                    if response.status == 200:
                        return
                    said = (await response.content.read(_MAX_BODY)).decode(errors="replace")
            except asyncio.TimeoutError:
                said = "no answer"
            await asyncio.sleep(0.2)
    raise TimeoutError(f"{url} did not answer within {READY_TIMEOUT:g} s: {said[:2000]}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

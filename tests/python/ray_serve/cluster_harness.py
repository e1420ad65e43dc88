"""A real Ray cluster on this machine, applications on it, and questions to them."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import ray
from cluster_spec import AppSpec as AppSpec
from cluster_spec import application
from kvroute.ray_serve import snapshots
from ray import serve
from ray.serve._private.common import DeploymentID
from ray.serve.context import _get_global_client
from ray_environment import ENVIRONMENT

HERE = Path(__file__).parent
SECONDS = 60.0
"""For what may take a while on a machine that is busy."""


@dataclass(frozen=True)
class App:
    """A deployed application."""

    name: str
    url: str

    async def ask(
        self, http: aiohttp.ClientSession, ids: list[int] | None, **body: Any
    ) -> dict[str, Any]:
        """The answer to a prompt: `replica`, `pid`, `cached` tokens. Fails if it is an error."""
        async with http.post(f"{self.url}/generate", json={"ids": ids, **body}) as response:
            assert response.status == 200, await response.text()
            answer = await response.json()
            assert isinstance(answer, dict)
            return answer

    async def status(self, http: aiohttp.ClientSession, ids: list[int] | None, **body: Any) -> int:
        """The HTTP status of the answer to a prompt."""
        async with http.post(f"{self.url}/generate", json={"ids": ids, **body}) as response:
            await response.read()
            return response.status

    async def stream(
        self, http: aiohttp.ClientSession, ids: list[int], **body: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """The items of a streamed answer: `replica`, `chunk`."""
        body = {"ids": ids, "stream": True, **body}
        async with http.post(f"{self.url}/generate", json=body) as response:
            assert response.status == 200, await response.text()
            async for line in response.content:
                yield json.loads(line)

    async def call(
        self, http: aiohttp.ClientSession, ids: list[int], method: str, *arguments: Any
    ) -> dict[str, Any]:
        """The answer of a method of `Model`, called on the replica that the router takes."""
        body = {"ids": ids, "method": method, "arguments": arguments}
        async with http.post(f"{self.url}/call", json=body) as response:
            assert response.status == 200, await response.text()
            answer = await response.json()
            assert isinstance(answer, dict)
            return answer

    async def each(
        self,
        http: aiohttp.ClientSession,
        prompts: list[list[int]],
        seconds: float = 0.1,
        second: bool = False,
    ) -> list[dict[str, Any]]:
        """The answers to prompts that the ingress asks all at once inside one HTTP request.

        Each takes so long. With `second`, the ingress asks through a second handle."""
        body = {"prompts": prompts, "seconds": seconds, "second": second}
        async with http.post(f"{self.url}/each", json=body) as response:
            assert response.status == 200, await response.text()
            answers = await response.json()
            assert isinstance(answers, list)
            return answers

    async def state(self, http: aiohttp.ClientSession | None) -> dict[str, Any]:
        """What the model's router knows, in one of the ingress's processes, with its `pid`; in the
        test's own without `http`."""
        state = await self._state(http)
        assert state is not None
        return state

    async def some_states(self, http: aiohttp.ClientSession) -> list[dict[str, Any]]:
        """The states of some ingress processes that have a router, each once."""
        # Asked at once, or all would go to the process that has the fewest requests.
        states = await asyncio.gather(*(self._state(http) for _ in range(4)))
        return list({state["pid"]: state for state in states if state is not None}.values())

    async def states(self, http: aiohttp.ClientSession, processes: int) -> list[dict[str, Any]]:
        """The state of each of so many ingress processes."""
        found: dict[int, dict[str, Any]] = {}
        async for _ in attempts(f"the routers of {processes} ingress processes"):
            found.update((state["pid"], state) for state in await self.some_states(http))
            if len(found) == processes:
                break
        return list(found.values())

    async def _state(self, http: aiohttp.ClientSession | None) -> dict[str, Any] | None:
        if http is None:
            answer = {"pid": os.getpid(), "deployments": snapshots()}
        else:
            async with http.get(f"{self.url}/state") as response:
                assert response.status == 200, await response.text()
                answer = await response.json()
        found = [one for one in answer["deployments"] if one["application"] == self.name]
        assert len(found) <= 1, found
        return {"pid": answer["pid"], **found[0]} if found else None

    async def held(self, http: aiohttp.ClientSession | None, replica: str, blocks: int) -> None:
        """Waits until the router has heard of so many blocks of a replica, or holds it for empty.
        What it only assumes counts for nothing: the first events of a replica correct it."""

        async def known() -> bool:
            worker = (await self.state(http))["workers"][replica]
            if blocks == 0:
                return bool(worker["held_blocks"] == 0)
            return bool(min(worker["held_blocks"], worker["events"]["stored_blocks"]) >= blocks)

        await eventually(f"{blocks} blocks of {replica} are in the index", known)

    async def has_workers(self, http: aiohttp.ClientSession, count: int) -> set[str]:
        """Waits until the router knows so many replicas; which."""

        async def known() -> set[str] | None:
            workers = set((await self.state(http))["workers"])
            return workers if len(workers) == count else None

        workers: set[str] = await eventually(f"{count} replicas are known", known)
        return workers

    async def settled(self, http: aiohttp.ClientSession | None) -> dict[str, Any]:
        """Waits until no booking and no request is left, here or from other processes."""
        state: dict[str, Any] = await eventually(
            "the bookings are gone", lambda: self._settled_state(http)
        )
        return state

    async def _settled_state(self, http: aiohttp.ClientSession | None) -> dict[str, Any] | None:
        state = await self.state(http)
        active = [worker["active_requests"] for worker in state["workers"].values()]
        return None if state["bookings"] or state["attempts"] or any(active) else state

    @property
    def model(self) -> Any:
        """A handle of the model, for calls from the test's own process. What its router knows is
        there for as long as the handle is."""
        return serve.get_deployment_handle("Model", self.name)


class Cluster:
    """A cluster of its own, with Serve's HTTP on a port of the system's choice.

    Where RAY_ADDRESS names a running cluster, begun with `ENVIRONMENT`, that one is used and left.
    """

    def __init__(self) -> None:
        os.environ.update(ENVIRONMENT, PYTHONPATH=python_path())
        self._is_own = "RAY_ADDRESS" not in os.environ
        # Not among pytest's own: sockets lie in it, and their paths are short.
        self._directory = TemporaryDirectory(prefix="kvroute-ray-", ignore_cleanup_errors=True)
        try:
            self._connect()
            serve.start(http_options={"host": "127.0.0.1", "port": unused_port()})
            port = _get_global_client().http_config.port  # a running cluster has its own
        except BaseException:
            self.stop()
            raise
        self._url = f"http://127.0.0.1:{port}"

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "warning"}
        if not self._is_own:
            ray.init(**quiet)
            return
        ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            object_store_memory=100 << 20,
            _temp_dir=self._directory.name,
            **quiet,
        )

    def deploy(self, *specs: AppSpec) -> list[App]:
        """Runs them; raises what Ray says when one cannot start."""
        serve.run_many(
            [
                serve.RunTarget(
                    application(one), one.name, f"/{one.name}", external_scaler_enabled=True
                )
                for one in specs
            ],
            wait_for_applications_running=True,
        )
        return [App(one.name, f"{self._url}/{one.name}") for one in specs]

    @contextmanager
    def running(self, *specs: AppSpec) -> Iterator[list[App]]:
        """Applications that are there for a while."""
        try:
            yield self.deploy(*specs)
        finally:
            for one in specs:
                serve.delete(one.name, _blocking=False)

    def scale(self, app: App, replicas: int) -> None:
        """Has Serve start or stop replicas of a model that runs on."""
        model = DeploymentID(name="Model", app_name=app.name)
        controller = _get_global_client()._controller
        ray.get(controller.update_deployment_replicas.remote(model, replicas), timeout=SECONDS)

    def stop(self) -> None:
        try:
            if self._is_own:
                serve.shutdown()
        finally:
            ray.shutdown()
            self._directory.cleanup()


async def attempts(what: str, pause: float = 0.05) -> AsyncIterator[int]:
    """Counts tries of what should soon be so; fails when that took too long."""
    start = time.monotonic()
    count = 0
    while time.monotonic() - start < SECONDS:
        yield count
        count += 1
        await asyncio.sleep(pause)
    raise AssertionError(f"not within {SECONDS} s: {what}")


async def eventually(what: str, holds: Callable[[], Any]) -> Any:
    """The first true value of an async predicate."""
    async for _ in attempts(what):
        value = await holds()
        if value:
            return value
    return None


def prompt(seed: int, blocks: int = 8) -> list[int]:
    """Token ids that share no block with those of another seed."""
    draw = random.Random(seed)
    return [draw.randrange(1 << 20) for _ in range(blocks * 16)]


def python_path() -> str:
    """With which Ray's processes find cluster_apps."""
    return os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

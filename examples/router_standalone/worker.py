"""The engines of the standalone example, and requests sent straight to one of them.

Where vLLM is installed the engines are `vllm serve` processes, one on each GPU; elsewhere, or with
engine="simulated", they are `kvroute mock` processes, which behave alike seen from outside.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from engine_commands import EngineSettings, free_port, simulated_command, vllm_command, vllm_env
from processes import ChildProcess, StartError

ENGINES = ("auto", "simulated", "vllm")
SIMULATED_START_SECONDS = 30.0
VLLM_START_SECONDS = 900.0
MAX_ANSWER_BYTES = 64 * 2**20


class EngineUnavailableError(RuntimeError):
    """An engine does not answer; the message names it."""


@dataclass(frozen=True)
class EngineRequest:
    """An HTTP request for an engine: `body` goes there byte for byte."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class EngineAnswer:
    """An engine's answer, whose body is still to come. Must be closed; closing twice is fine."""

    def __init__(self, engine: str, response: aiohttp.ClientResponse) -> None:
        self._engine = engine
        self._response = response
        self.status = response.status
        self.media_type = response.headers.get("content-type", "application/json")
        self.streamed = response.content_type == "text/event-stream"

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises EngineUnavailableError when the engine breaks off."""
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, asyncio.TimeoutError) as error:
            raise EngineUnavailableError(f"{self._engine} broke off: {describe(error)}") from error

    async def read(self) -> bytes:
        """The whole body. Raises EngineUnavailableError."""
        parts, size = [], 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise EngineUnavailableError(
                    f"{self._engine} sent more than {MAX_ANSWER_BYTES} bytes"
                )
            parts.append(chunk)
        return b"".join(parts)

    def close(self) -> None:
        """Ends the exchange: an engine that still generates sees its client leave."""
        self._response.close()


class VllmWorkers:
    """Engines 0 to num_workers - 1, each a process with an HTTP port that the system chose."""

    def __init__(
        self,
        model: str = "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
        block_size: int = 64,
        base_kv_events_port: int = 5557,
        base_metrics_port: int = 5657,
        num_workers: int = 1,
        base_kv_replay_port: int = 5757,
        host: str = "127.0.0.1",
        engine: str = "auto",
        tokenizer: str | None = None,
        speed: float = 1.0,
    ) -> None:
        if engine not in ENGINES:
            raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, got {engine!r}")
        if engine == "auto":
            engine = "vllm" if importlib.util.find_spec("vllm") else "simulated"
        self.engine = engine
        self.settings = [
            EngineSettings(
                index=i,
                model=model,
                block_size=block_size,
                host=host,
                kv_events_port=base_kv_events_port + i,
                kv_replay_port=base_kv_replay_port + i,
                metrics_port=base_metrics_port + i,
                tokenizer=tokenizer,
                speed=speed,
            )
            for i in range(num_workers)
        ]
        self.urls: list[str] = []
        self.processes: dict[int, ChildProcess] = {}
        self._session: aiohttp.ClientSession | None = None
        self._turns = itertools.cycle(range(max(num_workers, 1)))

    async def initialize(self) -> None:
        """Starts all engines at once and waits until they serve. Raises StartError."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=2, sock_read=600)
        self._session = aiohttp.ClientSession(
            timeout=timeout,
            connector=aiohttp.TCPConnector(limit=0),
            headers={"accept-encoding": "identity"},
        )
        start = self._start_vllm if self.engine == "vllm" else self._start_simulated
        self.urls = list(await asyncio.gather(*(start(engine) for engine in self.settings)))

    async def direct(self, request: EngineRequest, worker_id: int) -> EngineAnswer:
        """Sends the request to that worker; the answer's body has not been read yet.

        Raises EngineUnavailableError. Cancelling the call takes the request back.
        """
        assert self._session is not None, "initialize() first"
        engine = f"worker {worker_id} at {self.urls[worker_id]}"
        headers = {"content-type": "application/json", **request.headers}
        try:
            response = await self._session.post(
                self.urls[worker_id] + request.path, data=request.body, headers=headers
            )
        except (aiohttp.ClientError, asyncio.TimeoutError) as error:
            raise EngineUnavailableError(f"{engine} does not answer: {describe(error)}") from error
        return EngineAnswer(engine, response)

    async def direct_to_any(self, request: EngineRequest) -> EngineAnswer:
        """The same from any worker that answers, in turn: for what every engine knows alike."""
        problems = []
        for _ in self.urls:
            try:
                return await self.direct(request, next(self._turns))
            except EngineUnavailableError as error:
                problems.append(str(error))
        raise EngineUnavailableError("; ".join(problems) or "there are no workers")

    async def shutdown(self) -> None:
        """Ends all engines. May be called again, and after a failed initialize()."""
        await asyncio.gather(*(process.stop() for process in self.processes.values()))
        if self._session is not None:
            await self._session.close()

    async def _start_simulated(self, engine: EngineSettings) -> str:
        process = await self._spawn(engine, simulated_command(engine), None)
        ready: dict[str, Any] = await process.ready_line(SIMULATED_START_SECONDS)
        return str(ready["http"])

    async def _start_vllm(self, engine: EngineSettings) -> str:
        port = free_port(engine.host)
        env = vllm_env(engine, os.environ)
        process = await self._spawn(engine, vllm_command(engine, port), env)
        process.discard_output()
        url = f"http://{engine.host}:{port}"
        await self._await_health(process, url, VLLM_START_SECONDS)
        return url

    async def _spawn(
        self, engine: EngineSettings, command: list[str], env: Mapping[str, str] | None
    ) -> ChildProcess:
        process = await ChildProcess.start(f"worker {engine.index}", command, env)
        self.processes[engine.index] = process
        return process

    async def _await_health(self, process: ChildProcess, url: str, timeout: float) -> None:
        assert self._session is not None
        deadline = asyncio.get_running_loop().time() + timeout
        while process.running and asyncio.get_running_loop().time() < deadline:
            try:
                async with self._session.get(f"{url}/health") as response:
                    if response.status == 200:
                        return
            except (aiohttp.ClientError, asyncio.TimeoutError):
                pass  # not listening yet
            await asyncio.sleep(1.0)
        raise StartError(f"{process.name}: ended or not ready after {timeout:g} s")


def describe(error: Exception) -> str:
    """An error's text; timeouts have none of their own."""
    return str(error) or type(error).__name__

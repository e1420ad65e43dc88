"""The processes of one policy's replay: engines, and the frontend before them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from kvroute.demo.child_process import ChildError, ChildProcess
from kvroute.demo.plan import DemoPlan

MODEL = "demo"


class Deployment:
    """Fresh engines and a frontend that routes by `policy`; an async context manager.

    On entry all processes serve; on exit all have ended. `engines` are the engines' URLs in order,
    `url` is the frontend's.
    """

    def __init__(self, plan: DemoPlan, policy: str) -> None:
        self._plan = plan
        self._policy = policy
        self._children: list[ChildProcess] = []
        self.engines: tuple[str, ...] = ()
        self.url = ""

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name: engine 1 ..., frontend."""
        return {child.name: child.pid for child in self._children}

    async def __aenter__(self) -> Deployment:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stop()

    async def failed(self) -> ChildError:
        """Waits until any process ends by itself, and gives the error that says so."""
        waits = [asyncio.create_task(child.exited()) for child in self._children]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for wait in waits:
                wait.cancel()

    async def _start(self) -> None:
        plan = self._plan
        command = mock_arguments(plan)
        children = [await self._spawn(f"engine {n}", command) for n in range(1, plan.engines + 1)]
        engines = [await child.ready(plan.start_timeout) for child in children]
        command = serve_arguments(self._policy, engines, plan)
        frontend = await self._spawn("frontend", command)
        ready = await frontend.ready(plan.start_timeout)
        self.engines = tuple(str(engine["http"]) for engine in engines)
        self.url = str(ready["http"])

    async def _spawn(self, name: str, arguments: Sequence[str]) -> ChildProcess:
        child = ChildProcess(name, arguments)
        self._children.append(child)
        await child.start()
        return child

    async def _stop(self) -> None:
        await asyncio.gather(*(child.stop() for child in self._children), return_exceptions=True)


def mock_arguments(plan: DemoPlan) -> list[str]:
    """The command line of one simulated engine, on ports chosen by the system."""
    return [
        "mock",
        "--port=0",
        f"--model={MODEL}",
        f"--block-size={plan.block_size}",
        f"--num-blocks={plan.num_blocks}",
        "--kv-events=tcp://127.0.0.1:0",
        "--kv-replay=tcp://127.0.0.1:0",
        "--load-events=tcp://127.0.0.1:0",
        f"--speed={plan.compression:g}",
        f"--tokens-per-chunk={plan.tokens_per_chunk}",
    ]


def serve_arguments(policy: str, engines: Sequence[dict[str, Any]], plan: DemoPlan) -> list[str]:
    """The command line of the frontend before `engines`, which are their ready messages."""
    # The engines' cost model, sped up as they are.
    tokens_per_second = 12_000 * plan.compression
    attention_seconds = 1.7e-9 / plan.compression

    def listed(key: str) -> str:
        return ",".join(str(engine.get(key) or "") for engine in engines)

    return [
        "serve",
        "--host=127.0.0.1",
        "--port=0",
        f"--static-backends={listed('http')}",
        f"--static-models={listed('model')}",
        f"--routing-logic={policy}",
        f"--kv-events={listed('kv_events')}",
        f"--kv-replay={listed('kv_replay')}",
        f"--load-events={listed('load_events')}",
        f"--block-size={plan.block_size}",
        f"--total-blocks={','.join([str(plan.num_blocks)] * len(engines))}",
        f"--prefill-tokens-per-second={tokens_per_second:g}",
        f"--attention-seconds={attention_seconds:g}",
    ]

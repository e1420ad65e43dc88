"""Simulated engines by role and the frontend before them, each a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from kvroute.demo.child_process import ChildProcess

MODEL = "m"
START_TIMEOUT = 60.0


@dataclass(frozen=True, kw_only=True)
class EnginePlan:
    """What all engines of a fleet are. Times are those of real engines, divided by `speed`."""

    num_blocks: int = 48_000
    block_size: int = 16
    speed: float = 1.0
    base_step: float = 0.012
    prefill_tokens_per_second: float = 12_000.0
    per_attention_pair: float = 1.7e-9
    transfer_bandwidth: float = 50e9
    tokens_per_chunk: int = 1

    def arguments(self, role: str) -> list[str]:
        """Of `kvroute mock`; `role` is prefill, decode or both, the last without a connector."""
        protocol = [] if role == "both" else ["--kv-connector=nixl", f"--kv-role={role}"]
        return [
            "mock",
            "--port=0",
            f"--model={MODEL}",
            f"--block-size={self.block_size}",
            f"--num-blocks={self.num_blocks}",
            "--kv-events=tcp://127.0.0.1:0",
            "--kv-replay=tcp://127.0.0.1:0",
            "--load-events=tcp://127.0.0.1:0",
            f"--speed={self.speed:g}",
            f"--base-step={self.base_step:g}",
            f"--prefill-tokens-per-second={self.prefill_tokens_per_second:g}",
            f"--per-attention-pair={self.per_attention_pair:g}",
            f"--transfer-bandwidth={self.transfer_bandwidth:g}",
            f"--tokens-per-chunk={self.tokens_per_chunk}",
            *protocol,
        ]


class RoleFleet:
    """Fresh engines with these `roles` and a frontend; an async context manager.

    On entry all processes serve; on exit all have ended. `url` is the frontend's, `engines` are the
    engines' in order of `roles`. `options` go to `kvroute serve`.
    """

    def __init__(self, plan: EnginePlan, roles: Sequence[str], options: Sequence[str]) -> None:
        self._plan = plan
        self._roles = tuple(roles)
        self._options = tuple(options)
        self._stack = AsyncExitStack()
        self._children: list[ChildProcess] = []
        self.engines: tuple[str, ...] = ()
        self.url = ""

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {child.name: child.pid for child in self._children}

    async def __aenter__(self) -> RoleFleet:
        try:
            engines = [await self._spawn(role, self._plan.arguments(role)) for role in self._roles]
            ready = await asyncio.gather(*(engine.ready(START_TIMEOUT) for engine in engines))
            frontend = await self._spawn("frontend", self._serve_arguments(ready))
            self.url = str((await frontend.ready(START_TIMEOUT))["http"])
        except BaseException:
            await self._stack.aclose()
            raise
        self.engines = tuple(str(engine["http"]) for engine in ready)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _spawn(self, name: str, arguments: Sequence[str]) -> ChildProcess:
        child = ChildProcess(f"{name} {len(self._children)}", arguments)
        self._children.append(child)
        return await self._stack.enter_async_context(child)

    def _serve_arguments(self, engines: Sequence[dict[str, Any]]) -> list[str]:
        plan = self._plan

        def listed(key: str) -> str:
            return ",".join(str(engine[key]) for engine in engines)

        labels = []
        if set(self._roles) != {"both"}:
            labels = [
                f"--static-model-labels={','.join(self._roles)}",
                "--prefill-model-labels=prefill",
                "--decode-model-labels=decode",
            ]
        return [
            "serve",
            "--host=127.0.0.1",
            "--port=0",
            f"--static-backends={listed('http')}",
            f"--static-models={listed('model')}",
            f"--kv-events={listed('kv_events')}",
            f"--kv-replay={listed('kv_replay')}",
            f"--load-events={listed('load_events')}",
            f"--block-size={plan.block_size}",
            f"--total-blocks={','.join([str(plan.num_blocks)] * len(engines))}",
            f"--prefill-tokens-per-second={plan.prefill_tokens_per_second * plan.speed:g}",
            f"--attention-seconds={plan.per_attention_pair / plan.speed:g}",
            *labels,
            *self._options,
        ]

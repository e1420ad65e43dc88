"""Runs a demo from its plan to its table."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack

from rich.console import Console

from kvroute.demo.child_process import ChildError
from kvroute.demo.decision_time import read_decision_time
from kvroute.demo.deployment import MODEL, Deployment
from kvroute.demo.plan import DemoPlan
from kvroute.demo.processor_time import ProcessorMeter
from kvroute.demo.progress import replay_progress
from kvroute.demo.replay import ReplayResult, replay
from kvroute.demo.report import print_how_to_try, print_plan, print_results
from kvroute.demo.summary import PolicySummary, summarize
from kvroute.demo.workload import Workload, prepare_workload


class DemoError(RuntimeError):
    """The demo could not be run to its end; the message says why."""


class Demo:
    """Replays `plan`'s trace with each of its policies and prints what came of it.

    `workload` is None until `run` has prepared it.
    """

    def __init__(
        self, plan: DemoPlan, console: Console, on_results: Callable[[], None] = lambda: None
    ) -> None:
        """`on_results` is called once, when all of `summaries` is there."""
        self._plan = plan
        self._console = console
        self._on_results = on_results
        self.workload: Workload | None = None
        self.summaries: list[PolicySummary] = []

    async def run(self) -> None:
        """Fills `summaries`, prints the table, and with `keep` serves until it is cancelled.

        Raises `DemoError` when a process does not start or dies, or at the plan's deadline, and
        `kvroute.traces.TraceError` for an unusable trace. All processes have ended on return, on
        errors and on cancellation.
        """
        async with AsyncExitStack() as kept:
            try:
                deployment = await asyncio.wait_for(self._replay_all(kept), self._plan.deadline)
            except asyncio.TimeoutError:
                limit = self._plan.deadline
                raise DemoError(f"not finished within {limit:g} s, given up") from None
            except ChildError as error:
                raise DemoError(str(error)) from error
            assert self.workload is not None
            print_results(self._console, self._plan, self.workload, self.summaries)
            self._on_results()
            if self._plan.keep:
                print_how_to_try(self._console, deployment.url, deployment.engines)
                raise DemoError(str(await deployment.failed()))

    async def _replay_all(self, kept: AsyncExitStack) -> Deployment:
        workload = self.workload = await asyncio.to_thread(prepare_workload, self._plan)
        print_plan(self._console, self._plan, workload)
        for policy in self._plan.policies:
            async with AsyncExitStack() as stack:
                deployment = await stack.enter_async_context(Deployment(self._plan, policy))
                self.summaries.append(await self._replay(policy, deployment, workload))
                if self._plan.keep and policy == self._plan.policies[-1]:
                    kept.push_async_exit(stack.pop_all())
        return deployment

    async def _replay(
        self, policy: str, deployment: Deployment, workload: Workload
    ) -> PolicySummary:
        plan = self._plan
        requests = workload.trace.requests
        meter = ProcessorMeter({"client": os.getpid(), **deployment.pids})
        with replay_progress(self._console, policy, len(requests)) as advance:
            result = await _unless_failed(
                deployment,
                replay(
                    deployment.url,
                    MODEL,
                    requests,
                    workload.prompts,
                    compression=plan.compression,
                    max_in_flight=plan.max_in_flight,
                    request_timeout=plan.request_timeout,
                    on_completed=advance,
                ),
            )
        processor = meter.read()
        decisions = await read_decision_time(deployment.url)
        return summarize(policy, result, deployment.engines, decisions, processor)


async def _unless_failed(
    deployment: Deployment, replaying: Coroutine[None, None, ReplayResult]
) -> ReplayResult:
    """The replay's result; raises `ChildError` at once when a process of `deployment` ends."""
    work = asyncio.create_task(replaying)
    failed = asyncio.create_task(deployment.failed())
    try:
        await asyncio.wait((work, failed), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise failed.result()
        return work.result()
    finally:
        for task in (work, failed):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

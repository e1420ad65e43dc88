"""The measurements of `bench_ray_choose.py`."""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from kvroute.demo.summary import quantile
from kvroute.ray_serve.calls import RoutedCall
from kvroute.ray_serve.request_router import KvRouteRequestRouter
from ray.llm._internal.serve.routing_policies.prefix_aware.prefix_aware_router import (
    PrefixCacheAffinityRouter,
)
from ray.llm._internal.serve.routing_policies.prefix_aware.prefix_tree import PrefixTreeActor
from ray.serve._private.common import (
    DeploymentHandleSource,
    DeploymentID,
    ReplicaID,
    RequestMetadata,
)
from ray.serve._private.request_router import PowerOfTwoChoicesRequestRouter
from ray.serve.request_router import PendingRequest
from ray_serve_app import Question, text_of
from ray_serve_cluster import ray_cluster

PROMPTS = 8
BLOCK_SIZE = 16
TURN = 40  # calls of one kind before the next has its turn
HEAD = """\
| router | token ids | replicas | choose_replicas, p50 / p99 µs | whole, p50 / p99 µs |
| --- | --- | --- | --- | --- |"""


class StandIn:
    """What a router asks of a RunningReplica, with room for every request."""

    node_id = ""
    availability_zone = None
    max_ongoing_requests = 1 << 30
    is_cross_language = False

    def __init__(self, deployment: DeploymentID, number: int) -> None:
        self.replica_id = ReplicaID(f"replica{number}", deployment)
        self.replica_metadata: dict[str, Any] = {}
        self.routing_stats: dict[str, Any] = {}
        self.multiplexed_model_ids: set[str] = set()

    async def get_queue_len(self, **_: Any) -> int:
        """Nothing waits."""
        return 0


@dataclass(frozen=True)
class Side:
    """A router and the form in which it gets token ids."""

    label: str
    router: Any
    form: str = "array"
    given: Callable[[array[int]], Any] = lambda ids: ids
    choices: list[float] = field(default_factory=list)
    wholes: list[float] = field(default_factory=list)

    async def ask(self, prompt: array[int], question: Question, number: int) -> None:
        """Times both for one prompt; `number` tells requests apart."""
        ids = self.given(prompt)
        self.choices.append(await self._choose(_pending(question, ids, f"choose{number}")))
        self.wholes.append(await self._whole(_pending(question, ids, f"whole{number}")))

    def row(self, replicas: int) -> str:
        """Of the table under `HEAD`."""
        figures = [
            f"{quantile(times, 0.5):,.0f} / {quantile(times, 0.99):,.0f}"
            for times in (sorted(self.choices), sorted(self.wholes))
        ]
        return f"| {self.label} | {self.form} | {replicas} | {' | '.join(figures)} |"

    async def _choose(self, pending: PendingRequest) -> float:
        """Microseconds of the call by itself, which books nothing."""
        begin = time.perf_counter_ns()
        await self.router.choose_replicas(self.router._replicas_list, pending)
        return (time.perf_counter_ns() - begin) / 1e3

    async def _whole(self, pending: PendingRequest) -> float:
        """Microseconds of a request's way through the router, sending and answer left out."""
        router, request_id = self.router, pending.metadata.internal_request_id
        begin = time.perf_counter_ns()
        replica = (await router._choose_replica_for_request(pending)).replica_id
        router.on_send_request(replica)
        router.on_request_routed(pending, replica, None)
        router.on_request_completed(replica, request_id)
        router.decrement_queue_len_cache(replica)
        return (time.perf_counter_ns() - begin) / 1e3


def run(options: argparse.Namespace) -> None:
    """Prints the table."""
    choice = random.Random(1)
    prompts = [array("I", choice.choices(range(32_000), k=options.tokens)) for _ in range(PROMPTS)]
    print(f"Ray {ray.__version__}, prompts of {options.tokens:,} tokens, {options.repeats} calls")
    print(HEAD)
    with ray_cluster():
        for replicas in options.replicas:
            asyncio.run(_measure(replicas, prompts, options.repeats))


async def _measure(replicas: int, prompts: Sequence[array[int]], repeats: int) -> None:
    deployment = DeploymentID("Engine", f"choose-{replicas}")
    stand_ins = [StandIn(deployment, number) for number in range(replicas)]
    questions = [Question(text_of(prompt), {"max_tokens": 16}) for prompt in prompts]
    default = _made(PowerOfTwoChoicesRequestRouter, stand_ins)
    prefix = _made(PrefixCacheAffinityRouter, stand_ins, tree_actor=PrefixTreeActor.remote())
    ours = _made(KvRouteRequestRouter, stand_ins, block_size=BLOCK_SIZE)
    for stand_in in stand_ins:
        for prompt, question in zip(prompts, questions, strict=True):
            prefix.on_request_routed(_pending(question, prompt, ""), stand_in.replica_id, None)
            worker = stand_in.replica_id.unique_id
            ours._kvroute_state.router.reserve(prompt, allowed=[worker]).release()
    sides = [
        Side("power of two, Serve's default", default),
        Side("prefix affinity, Ray's", prefix),
        Side("kvroute", ours),
        Side("kvroute", ours, "list", array.tolist),
        Side("kvroute", ours, "RoutedCall's", lambda ids: RoutedCall(ids).token_ids),
    ]
    for begin in range(0, repeats, TURN):
        for side in sides:
            for number in range(begin, min(begin + TURN, repeats)):
                which = number % len(prompts)
                await side.ask(prompts[which], questions[which], number)
    for side in sides:
        print(side.row(replicas), flush=True)


def _made(kind: type[Any], stand_ins: Sequence[StandIn], **options: Any) -> Any:
    """A router as a handle makes it, which knows these replicas."""
    router = kind(
        deployment_id=stand_ins[0].replica_id.deployment_id,
        handle_source=DeploymentHandleSource.REPLICA,
        use_replica_queue_len_cache=True,
    )
    router.initialize_state(**options)
    router.update_replicas(stand_ins)
    return router


def _pending(question: Question, token_ids: Any, request_id: str) -> PendingRequest:
    return PendingRequest(
        args=[question],
        kwargs={"request_token_ids": token_ids},
        metadata=RequestMetadata(request_id=request_id, internal_request_id=request_id),
    )

"""What Ray Serve does around a request router, on Ray's own base class."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from kvroute.ray_serve import KvRouteRequestRouter
from ray.serve._private.common import (
    DeploymentHandleSource,
    DeploymentID,
    ReplicaID,
    RequestMetadata,
)
from ray.serve.request_router import PendingRequest
from serve_fakes import FakeReplica

QUIET = {"exchange": False, "metrics": False, "seed": 1}


def replica_id(name: str) -> ReplicaID:
    return ReplicaID(name, DeploymentID("model", "app"))


def replica(name: str, **more: Any) -> FakeReplica:
    return FakeReplica(name, replica_id=replica_id(name), **more)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(5_000):
        if condition():
            return
        await asyncio.sleep(0.001)  # what Ray's tasks do gives no event
    raise AssertionError("it did not come about")


class Serve:
    """What Ray's own router does around a request router, as far as it calls it."""

    def __init__(self, replicas: list[FakeReplica], **options: Any) -> None:
        self.router = KvRouteRequestRouter(
            deployment_id=DeploymentID("model", "app"),
            handle_source=DeploymentHandleSource.REPLICA,
            use_replica_queue_len_cache=True,
            initial_backoff_s=0.001,
            max_backoff_s=0.01,
        )
        self.router.initialize_state(**{**QUIET, **options})
        self.router.update_replicas(replicas)

    @property
    def state(self) -> Any:
        return self.router._kvroute_state

    def request(self, request_id: str, ids: Any = None, **metadata: Any) -> PendingRequest:
        kwargs = {} if ids is None else {"request_token_ids": ids}
        return PendingRequest([], kwargs, RequestMetadata("r", request_id, **metadata))

    async def route(self, pending: PendingRequest, is_retry: bool = False) -> str:
        """Routed and sent."""
        taken = await self.router._choose_replica_for_request(pending, is_retry=is_retry)
        self.router.on_send_request(taken.replica_id)
        return taken.replica_id.unique_id

    def complete(self, worker: str, pending: PendingRequest) -> None:
        request_id = pending.metadata.internal_request_id
        self.router.on_request_completed(replica_id(worker), request_id)

    def running(self) -> dict[str, int]:
        targets = self.state.started_router().stats().targets
        return {one.worker: one.active_requests for one in targets if one.active_requests}

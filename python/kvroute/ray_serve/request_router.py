"""The class that Ray is told of. Ray pickles it by value, with every kvroute name that a method
reaches as a global, so methods import what they need: what they find is this process's own."""

from __future__ import annotations

from typing import Any

from ray.serve.request_router import (
    LocalityMixin,
    MultiplexMixin,
    PendingRequest,
    ReplicaID,
    RequestRouter,
    RunningReplica,
)

import kvroute._core  # noqa: F401 (where it is missing, who names the class is told)


class KvRouteRequestRouter(LocalityMixin, MultiplexMixin, RequestRouter):
    """Routes a deployment's requests by what its replicas hold of their prompts, and by load.

    `request_router_kwargs` are those of `kvroute.ray_serve.RouterOptions`. One for each handle; all
    hooks run on the event loop that routes. What they share is in `deployment_state`.
    """

    _kvroute_state: Any = None
    _kvroute_failure: str = "kvroute's router was not initialized"

    def initialize_state(self, **kwargs: Any) -> None:
        """Never raises: a raise here would make every request of the handle wait for ever."""
        import logging

        try:
            from kvroute.ray_serve.deployment_state import attach
            from kvroute.ray_serve.options import RouterOptions

            options = RouterOptions.parse(kwargs)
            deployment = self._deployment_id
            self._kvroute_state = attach(deployment.app_name, deployment.name, options, self)
        except Exception as error:
            self._kvroute_failure = f"{type(error).__name__}: {error}"
            logging.getLogger("ray.serve").exception(
                "kvroute cannot route to %s: every request gets an error", self._deployment_id
            )

    async def _choose_replica_for_request(
        self, pending_request: PendingRequest, *, is_retry: bool = False
    ) -> RunningReplica:
        """Runs in the caller's coroutine: what it raises reaches whoever awaits the answer."""
        from kvroute.ray_serve.errors import RouterUnavailableError

        state = self._kvroute_state
        if state is None:
            raise RouterUnavailableError(self._kvroute_failure)
        routing = await state.requests.begin(pending_request, is_retry)
        try:
            replica = await super()._choose_replica_for_request(pending_request, is_retry=is_retry)
        except BaseException:
            state.requests.give_up(routing, pending_request)
            raise
        finally:
            # Drops requests that are routed from an index that Ray empties for its own router only.
            self._get_pending_request_matching_multiplexed_model_id(routing.metadata)
        state.requests.take(routing, pending_request, replica)
        return replica

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Groups of one replica each, the best first. Keeps or changes no list. Never raises where
        a request waits for a replica."""
        if pending_request is None:
            return [list(candidate_replicas)]
        pending_request.routing_context.should_backoff = True
        if self._kvroute_state is None:  # a selection without a slot: a raise reaches its caller
            from kvroute.ray_serve.errors import RouterUnavailableError

            raise RouterUnavailableError(self._kvroute_failure)
        if not candidate_replicas:
            return []
        requests = self._kvroute_state.requests
        ranked: list[list[RunningReplica]] = await requests.choose(
            self, candidate_replicas, pending_request
        )
        return ranked

    def _get_next_pending_request_to_route(self) -> PendingRequest | None:
        # Before Ray 2.60 a routing task that retires leaves its request behind. Where any replica
        # does for any request another task finishes it; here each waits for its own.
        pending: PendingRequest | None = super()._get_next_pending_request_to_route()
        if pending is not None or hasattr(self, "_routing_task_by_pending_request_future"):
            return pending
        return next((p for p in self._pending_requests_to_fulfill if not p.future.done()), None)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        super().update_replicas(replicas)
        if self._kvroute_state is not None:
            self._kvroute_state.update_replicas(self, replicas)

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        super().on_replica_actor_died(replica_id)
        if self._kvroute_state is not None:
            died = self._kvroute_state.membership.died
            self._kvroute_state.hook("on_replica_actor_died", died, replica_id.unique_id)

    def on_send_request(self, replica_id: ReplicaID) -> None:
        super().on_send_request(replica_id)
        if self._kvroute_state is not None:
            sent = self._kvroute_state.requests.sent
            self._kvroute_state.hook("on_send_request", sent, replica_id.unique_id)

    def on_request_routed(
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any
    ) -> None:
        super().on_request_routed(pending_request, replica_id, result)
        if self._kvroute_state is not None:
            self._kvroute_state.counters.routed += 1

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        super().on_request_completed(replica_id, internal_request_id)
        if self._kvroute_state is not None:
            completed = self._kvroute_state.requests.completed
            worker = replica_id.unique_id
            self._kvroute_state.hook("on_request_completed", completed, worker, internal_request_id)

    def on_request_cancelled(self, internal_request_id: str) -> None:
        """Ray 2.60 calls it in none of its paths; a later one may."""
        if self._kvroute_state is not None:
            cancelled = self._kvroute_state.attempts.cancelled
            self._kvroute_state.hook("on_request_cancelled", cancelled, internal_request_id)

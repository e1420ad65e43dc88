"""The base of a deployment whose replicas kvroute routes to."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from kvroute.ray_serve.deployment_config import check_own_deployment
from kvroute.ray_serve.engine_facts import Endpoints, EngineFacts

logger = logging.getLogger("ray.serve")

Load = Mapping[str, float] | Sequence[Mapping[str, float]] | None


class KvRouteReplica:
    """Mixin for a deployment's class: states what the router wants to know of the replica's engine.

        @serve.deployment(request_router_config=router_config())
        class Model(KvRouteReplica):
            def __init__(self):
                self.kvroute_engine(kv_events="tcp://*:5557", block_size=16)
            def kvroute_load(self):
                return {"waiting": 0, "running": 3, "kv_usage": 0.4}

    Everything is optional: of a replica that states nothing the cache is predicted from what it was
    sent. Its own `__init__` need not be called. Where the deployment's options are bad, the replica
    fails before its constructor runs, and so the deployment, with a message that names the option.

    A class with Ray's hooks of its own extends these:

        async def record_routing_stats(self):
            return {**await super().record_routing_stats(), "mine": 1}
    """

    _kvroute_facts: EngineFacts | None = None
    _kvroute_load_failed: bool = False

    def __new__(cls, *args: Any, **kwargs: Any) -> KvRouteReplica:
        check_own_deployment()
        if super().__new__ is object.__new__:
            return super().__new__(cls)
        return super().__new__(cls, *args, **kwargs)

    def kvroute_engine(
        self,
        kv_events: Endpoints = None,
        kv_replay: Endpoints = None,
        load_events: Endpoints = None,
        block_size: int | None = None,
        dp_ranks: int = 1,
        total_blocks: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """States the facts, as EngineFacts takes them; to be called in the constructor. Raises
        InvalidOptionsError."""
        self._kvroute_facts = EngineFacts(
            kv_events, kv_replay, load_events, block_size, dp_ranks, total_blocks, labels
        )

    def kvroute_load(self) -> Any:
        """To be overridden, async or not: {"waiting": requests queued, "running": requests in work,
        "kv_usage": share of the cache in use, 0 to 1}, each optional; a list of these with one for
        each data-parallel rank; None where it is not known. Asked for every `stats_period_s`."""
        return None

    async def record_replica_metadata(self) -> dict[str, Any]:
        """Ray's hook, called once the replica is made."""
        inherited = await _inherited(super(), "record_replica_metadata")
        facts = self._kvroute_facts
        return inherited if facts is None else {**inherited, **facts.metadata()}

    async def record_routing_stats(self) -> dict[str, Any]:
        """Ray's hook, called once a period."""
        inherited = await _inherited(super(), "record_routing_stats")
        load = await self._kvroute_known_load()
        if self._kvroute_facts is None:
            if load is None:
                return inherited
            self._kvroute_facts = EngineFacts()
        return {**inherited, **self._kvroute_facts.stats(load)}

    async def _kvroute_known_load(self) -> Any:
        """None where the engine cannot say: the replica is none the worse for it."""
        try:
            load = self.kvroute_load()
            return await load if inspect.isawaitable(load) else load
        except Exception:  # the user's code may fail in any way
            if not self._kvroute_load_failed:
                logger.warning("kvroute_load failed (said once)", exc_info=True)
            self._kvroute_load_failed = True
            return None


async def _inherited(parent: Any, hook: str) -> dict[str, Any]:
    """What another base says."""
    method = getattr(parent, hook, None)
    said = None if method is None else method()
    if inspect.isawaitable(said):
        said = await said
    return {} if said is None else dict(said)

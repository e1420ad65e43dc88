"""What a replica says of itself, as Ray hands it to every router.

Static facts come with the first list of replicas (`replica_metadata`), load with the routing stats
once a period; before Ray 2.58, and in Ray LLM, the facts come with the stats too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvroute import KvRouter

OUR_KEY = "kvroute"
RAY_LLM_KEY = "kv_event_metadata"
_ANY_ADDRESS = ("*", "0.0.0.0", "[::]")


class MalformedFactsError(ValueError):
    """What a replica states cannot be read: which field, and what came."""


Endpoints = str | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class ReplicaFacts:
    """As KvRouter.add_worker takes them. Without an endpoint of events the replica's cache is
    predicted from what it was sent."""

    block_size: int | None = None
    dp_ranks: int = 1
    kv_events: Endpoints = None
    kv_replay: Endpoints = None
    load_events: Endpoints = None
    total_blocks: int | None = None
    labels: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, replica: Any) -> ReplicaFacts:
        """Of a RunningReplica. Raises MalformedFactsError; a replica that states nothing is fine.

        An endpoint at "any address" is made one at the replica's node, since the replica binds it
        and we connect.
        """
        metadata = getattr(replica, "replica_metadata", None) or {}
        stats = replica.routing_stats or {}
        for source in (metadata, stats):
            stated = _mapping(source, OUR_KEY)
            if stated is not None and any(name in stated for name in _READERS):
                return cls._from(stated, replica)
        for source in (metadata, stats):
            stated = _mapping(source, RAY_LLM_KEY)
            if stated is not None:
                return cls._from(_from_ray_llm(stated), replica)
        return cls()

    @classmethod
    def _from(cls, stated: Mapping[str, Any], replica: Any) -> ReplicaFacts:
        facts = {}
        for name, read in _READERS.items():
            value = stated.get(name)
            if value is not None:
                facts[name] = read(name, value)
        host = getattr(getattr(replica, "_replica_info", None), "node_ip", None)
        for name in ("kv_events", "kv_replay", "load_events"):
            if name in facts:
                facts[name] = _at(host, name, facts[name])
        return cls(**facts)

    def predicted(self) -> ReplicaFacts:
        """The same without endpoints."""
        return replace(self, kv_events=None, kv_replay=None, load_events=None)

    def add_to(self, router: KvRouter, worker: str) -> None:
        """Raises InvalidArgument where the core refuses them."""
        router.add_worker(
            worker,
            self.dp_ranks,
            self.block_size,
            self.kv_events,
            self.kv_replay,
            self.load_events,
            self.total_blocks,
            dict(self.labels),
        )


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """What its engine reports, one mapping for each rank, and the count of that report."""

    stamp: int
    ranks: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, replica: Any) -> ReplicaLoad | None:
        """None where it reports none. Raises MalformedFactsError."""
        stated = _mapping(replica.routing_stats or {}, OUR_KEY)
        if stated is None or stated.get("load") is None:
            return None
        load = stated["load"]
        ranks = [load] if isinstance(load, Mapping) else load
        if not isinstance(ranks, list | tuple) or not all(isinstance(r, Mapping) for r in ranks):
            raise MalformedFactsError(f"load: expected a mapping for each rank, got {load!r:.80}")
        return cls(_positive("stamp", stated.get("stamp", 0), least=0), tuple(ranks))

    def report_to(self, router: KvRouter, worker: str) -> None:
        """Raises InvalidArgument or UnknownWorker where the core refuses it."""
        for rank, load in enumerate(self.ranks):
            router.update_load(
                worker,
                rank,
                waiting=load.get("waiting"),
                running=load.get("running"),
                kv_usage=load.get("kv_usage"),
            )


def _mapping(source: Any, key: str) -> Mapping[str, Any] | None:
    stated = source.get(key)
    if stated is None or isinstance(stated, Mapping):
        return stated
    raise MalformedFactsError(f"{key}: expected a mapping, got {stated!r:.80}")


def _positive(name: str, value: Any, least: int = 1) -> int:
    if type(value) is int and value >= least:
        return value
    raise MalformedFactsError(f"{name}: expected an integer from {least}, got {value!r:.80}")


def _endpoints(name: str, value: Any) -> Endpoints:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(one, str) for one in value):
        return tuple(value)
    raise MalformedFactsError(f"{name}: expected an endpoint or a list of them, got {value!r:.80}")


def _labels(name: str, value: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(value, Mapping) and all(
        isinstance(key, str) and isinstance(text, str) for key, text in value.items()
    ):
        return tuple(sorted(value.items()))
    raise MalformedFactsError(f"{name}: expected a mapping of texts, got {value!r:.80}")


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "block_size": _positive,
    "dp_ranks": _positive,
    "kv_events": _endpoints,
    "kv_replay": _endpoints,
    "load_events": _endpoints,
    "total_blocks": _positive,
    "labels": _labels,
}


def _from_ray_llm(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Ray LLM's replica is one rank: a deployment with several has a replica for each."""
    return {
        "block_size": stated.get("block_size"),
        "kv_events": stated.get("endpoint"),
        "kv_replay": stated.get("replay_endpoint"),
    }


def _at(host: str | None, name: str, endpoints: Endpoints) -> Endpoints:
    if endpoints is None:
        return None
    if not isinstance(endpoints, str):
        return tuple(str(_at(host, name, endpoint)) for endpoint in endpoints)
    scheme, _, address = endpoints.rpartition("://")
    stated, _, port = address.rpartition(":")
    if stated not in _ANY_ADDRESS:
        return endpoints
    if not host:
        raise MalformedFactsError(f"{name}: expected an address to connect to, got {endpoints!r}")
    return f"{scheme or 'tcp'}://{f'[{host}]' if ':' in host else host}:{port}"

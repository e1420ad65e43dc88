"""What a replica states of its engine, in the form in which Ray carries it to the routers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from kvroute.ray_serve.deployment_config import check_own_deployment
from kvroute.ray_serve.errors import InvalidOptionsError

Endpoints = str | Sequence[str] | None

_ANY_INTERFACE = ("*", "0.0.0.0", "[::]")
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class EngineFacts:
    """Of one replica's engine, for classes that cannot have KvRouteReplica as their base:

        def __init__(self):
            self.engine = EngineFacts(kv_events="tcp://*:5557", block_size=16)
        def record_replica_metadata(self):
            return self.engine.metadata()
        def record_routing_stats(self):
            return self.engine.stats({"waiting": 0, "running": 3, "kv_usage": 0.4})

    Made in the replica's constructor, which fails where the deployment's options are bad.
    """

    def __init__(
        self,
        kv_events: Endpoints = None,
        kv_replay: Endpoints = None,
        load_events: Endpoints = None,
        block_size: int | None = None,
        dp_ranks: int = 1,
        total_blocks: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """As KvRouter.add_worker has them: ZMQ endpoints where the engine publishes its KV events,
        answers for lost ones, and publishes its load; tokens per block; data-parallel ranks; blocks
        of each rank's cache; labels. An endpoint is rank 0's, rank r has its port + r; a list names
        each. Without `kv_events` the cache is predicted from what the replica was sent.

        An address of all interfaces (`*`, 0.0.0.0, [::]) becomes the node's own, and so does
        loopback where the cluster has other nodes. Raises InvalidOptionsError.
        """
        check_own_deployment()
        endpoints = {"kv_events": kv_events, "kv_replay": kv_replay, "load_events": load_events}
        numbers = {"block_size": block_size, "dp_ranks": dp_ranks, "total_blocks": total_blocks}
        stated: dict[str, Any] = {
            **{name: _reachable(name, given) for name, given in endpoints.items()},
            **{name: _positive(name, given) for name, given in numbers.items()},
            "labels": _labels(labels),
        }
        self._facts: dict[str, Any] = {
            name: value for name, value in stated.items() if value is not None
        }
        self._stamps = itertools.count(1)
        self._metadata_taken = False

    def metadata(self) -> dict[str, Any]:
        """For `record_replica_metadata`: the facts."""
        self._metadata_taken = True
        return {"kvroute": dict(self._facts)}

    def stats(
        self, load: Mapping[str, float] | Sequence[Mapping[str, float]] | None = None
    ) -> dict[str, Any]:
        """For `record_routing_stats`: the engine's load now, of each rank where there are several:
        `waiting` and `running` requests, `kv_usage` from 0 to 1, each of them optional.

        Where Ray did not ask for the metadata the facts are here too. Without either it is empty,
        so that Ray has nothing to spread.
        """
        said: dict[str, Any] = {} if self._metadata_taken else dict(self._facts)
        if load is not None:
            said["load"] = (
                [dict(load)] if isinstance(load, Mapping) else [dict(one) for one in load]
            )
            said["stamp"] = next(self._stamps)  # so that the same load again is seen as a new one
        return {"kvroute": said} if said else {}


def _reachable(name: str, endpoints: Endpoints) -> str | list[str] | None:
    if endpoints is None:
        return None
    if isinstance(endpoints, str):
        return _reachable_endpoint(name, endpoints)
    if not isinstance(endpoints, Sequence) or not endpoints:
        raise InvalidOptionsError(name, "an endpoint, or one for each rank", f"{endpoints!r:.80}")
    return [
        _reachable_endpoint(f"{name}[{rank}]", endpoint) for rank, endpoint in enumerate(endpoints)
    ]


def _reachable_endpoint(name: str, endpoint: Any) -> str:
    scheme, _, address = endpoint.partition("://") if isinstance(endpoint, str) else ("", "", "")
    if scheme == "ipc" and address:
        return str(endpoint)
    host, _, port = address.rpartition(":")
    if scheme != "tcp" or not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise InvalidOptionsError(name, 'an endpoint such as "tcp://*:5557"', f"{endpoint!r:.80}")
    if host in _ANY_INTERFACE or (host in _LOOPBACK and not _is_only_node()):
        node = _node_address()
        host = f"[{node}]" if ":" in node else node
    return f"tcp://{host}:{port}"


def _positive(name: str, value: Any) -> int | None:
    if value is None or (type(value) is int and value > 0):
        return value
    raise InvalidOptionsError(name, "an integer of at least 1", f"{value!r:.80}")


def _labels(labels: Any) -> dict[str, str] | None:
    if labels is None:
        return None
    if isinstance(labels, Mapping) and all(
        isinstance(text, str) for pair in labels.items() for text in pair
    ):
        return dict(labels)
    raise InvalidOptionsError("labels", "texts by name", f"{labels!r:.80}")


def _node_address() -> str:
    import ray

    return str(ray.util.get_node_ip_address())


def _is_only_node() -> bool:
    import ray

    return sum(bool(node["Alive"]) for node in ray.nodes()) == 1

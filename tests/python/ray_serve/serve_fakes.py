"""What a router is given by Ray Serve, without Ray."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from kvroute.ray_serve.deployment_state import DeploymentState
from kvroute.ray_serve.options import RouterOptions
from kvroute.ray_serve.routing import Routing


@dataclass(frozen=True)
class FakeReplicaId:
    unique_id: str


class FakeReplica:
    """A RunningReplica. `replica_id`: Ray's own, where Ray's code is to see it."""

    def __init__(
        self,
        name: str,
        metadata: Mapping[str, Any] | None = None,
        stats: Mapping[str, Any] | None = None,
        *,
        replica_id: Any = None,
        node_id: str = "node",
        zone: str | None = None,
        models: Iterable[str] = (),
        node_ip: str | None = "10.0.0.1",
        max_ongoing_requests: int = 100,
    ) -> None:
        self.replica_id = replica_id or FakeReplicaId(name)
        self.replica_metadata = dict(metadata or {})
        self.routing_stats = dict(stats or {})
        self.node_id = node_id
        self.availability_zone = zone
        self.multiplexed_model_ids = set(models)
        self.max_ongoing_requests = max_ongoing_requests
        self.is_cross_language = False
        self._replica_info = SimpleNamespace(node_ip=node_ip)
        self.queue_len = 0
        self.probes = 0

    async def get_queue_len(self, *, deadline_s: float) -> int:  # noqa: ARG002, Ray's signature
        self.probes += 1
        return self.queue_len

    def restate(self, **stats: Any) -> None:
        """What Ray hands on anew is a new object."""
        self.routing_stats = stats


class FakeMember:
    """A handle's router: preferences, and which replicas have room."""

    _prefer_local_node_routing = False
    _prefer_local_az_routing = False

    def __init__(self) -> None:
        self.full: set[str] = set()

    def select_available_replicas(self, candidates: Sequence[Any]) -> list[Any]:
        return [one for one in candidates if one.replica_id.unique_id not in self.full]


@dataclass
class FakeMetadata:
    internal_request_id: str
    multiplexed_model_id: str = ""
    session_id: str = ""


@dataclass
class FakePending:
    """A PendingRequest."""

    metadata: FakeMetadata
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)


def pending(request_id: str = "q", ids: Any = None, **kwargs: Any) -> FakePending:
    if ids is not None:
        kwargs["request_token_ids"] = ids
    return FakePending(FakeMetadata(request_id), [], kwargs)


def state_of(replicas: Sequence[FakeReplica], **options: Any) -> tuple[DeploymentState, FakeMember]:
    """A deployment with these replicas, and a handle that lists them."""
    given = {"exchange": False, "metrics": False, "seed": 1} | options
    state = DeploymentState("app", "model", RouterOptions(**given))
    member = FakeMember()
    state.join(member)
    state.update_replicas(member, replicas)
    return state, member


REPLICAS = [FakeReplica(f"r{i}") for i in range(4)]


async def choose(
    state: DeploymentState,
    member: FakeMember,
    request: FakePending,
    candidates: Sequence[FakeReplica] = REPLICAS,
) -> list[list[str]]:
    return names(await state.requests.choose(member, candidates, request))


async def routed(
    state: DeploymentState,
    member: FakeMember,
    request: FakePending,
    candidates: Sequence[FakeReplica] = REPLICAS,
) -> tuple[Routing, str]:
    """Chosen, taken by the best, and sent there."""
    routing = await state.requests.begin(request, False)
    ranked = await state.requests.choose(member, candidates, request)
    worker = ranked[0][0].replica_id.unique_id
    state.requests.take(routing, request, ranked[0][0])
    state.requests.sent(worker)
    return routing, worker


def names(ranked: Iterable[Iterable[FakeReplica]]) -> list[list[str]]:
    return [[replica.replica_id.unique_id for replica in group] for group in ranked]

"""What the cluster tests deploy, as figures and as Serve takes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cluster_apps import Ingress, Model
from kvroute.ray_serve import router_config
from ray import serve


@dataclass
class AppSpec:
    """What `Cluster.deploy` deploys under `name`: cluster_apps, with these figures.

    `router` are options of `kvroute.ray_serve.router_config`; `engine`, arguments of `Model`.
    """

    name: str
    replicas: int = 3
    ingress_replicas: int = 1
    max_ongoing_requests: int = 64
    router: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    ingress_environment: dict[str, str] = field(default_factory=dict)


def application(spec: AppSpec) -> serve.Application:
    """Serve's application of it."""
    model = serve.deployment(
        Model,
        name="Model",
        num_replicas=spec.replicas,
        max_ongoing_requests=spec.max_ongoing_requests,
        graceful_shutdown_timeout_s=1,
        ray_actor_options={"num_cpus": 0},
        request_router_config=router_config(stats_period_s=1, **spec.router),
    )
    environment = {"runtime_env": {"env_vars": spec.ingress_environment}}
    ingress = serve.deployment(
        Ingress,
        name="Ingress",
        num_replicas=spec.ingress_replicas,
        max_ongoing_requests=1024,
        graceful_shutdown_timeout_s=1,
        ray_actor_options={"num_cpus": 0, **(environment if spec.ingress_environment else {})},
    )
    return ingress.bind(model.bind(**spec.engine))

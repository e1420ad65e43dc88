"""The configuration of a deployment that kvroute routes to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvroute.ray_serve.errors import InvalidOptionsError

if TYPE_CHECKING:
    from ray.serve.config import RequestRouterConfig

ROUTER_CLASS = "kvroute.ray_serve:KvRouteRequestRouter"

# The ways to name it, a colon for the last point aside; Ray names a class that it is given itself
# by the last one.
_ROUTER_NAMES = (
    "kvroute.ray_serve.KvRouteRequestRouter",
    "kvroute.ray_serve.request_router.KvRouteRequestRouter",
)


def router_config(
    *, stats_period_s: float = 1.0, stats_timeout_s: float = 30.0, **options: Any
) -> RequestRouterConfig:
    """For `@serve.deployment(request_router_config=...)`: options as RouterOptions has them,
    checked here, before anything is deployed.

    stats_period_s: how often replicas are asked for their load (KvRouteReplica.kvroute_load).
    stats_timeout_s: how long one may take to say it.

    Raises InvalidOptionsError, and RouterUnavailableError where a package is missing.
    """
    from ray.serve.config import RequestRouterConfig

    from kvroute.ray_serve.options import RouterOptions

    parsed = RouterOptions.parse(options)
    parsed.load_tokenizer()
    return RequestRouterConfig(
        request_router_class=ROUTER_CLASS,
        request_router_kwargs=parsed.kwargs(),
        request_routing_stats_period_s=stats_period_s,
        request_routing_stats_timeout_s=stats_timeout_s,
    )


def check_own_deployment() -> None:
    """In a replica whose deployment kvroute routes to: checks the options once more, for those who
    wrote a RequestRouterConfig themselves. A raise in the replica's constructor makes the
    deployment fail with its message. Does nothing anywhere else.

    Raises InvalidOptionsError naming the option as `request_router_kwargs.<name>`, and
    RouterUnavailableError where a package is missing.
    """
    kwargs = _own_router_kwargs()
    if kwargs is None:
        return
    from kvroute.ray_serve.options import RouterOptions

    try:
        RouterOptions.parse(kwargs).load_tokenizer()
    except InvalidOptionsError as error:
        field = f"request_router_kwargs.{error.field}"
        raise InvalidOptionsError(field, error.expected, error.got) from error


def _own_router_kwargs() -> dict[str, Any] | None:
    """None outside of a replica, or where another router is configured. The context's config is
    private to Ray: where a version has none, the router itself finds what is wrong."""
    from ray import serve
    from ray.serve.exceptions import RayServeException

    try:
        context = serve.get_replica_context()
    except RayServeException:
        return None
    config = getattr(getattr(context, "_deployment_config", None), "request_router_config", None)
    router = str(getattr(config, "request_router_class", "")).replace(":", ".")
    kwargs = getattr(config, "request_router_kwargs", None)
    return kwargs if router in _ROUTER_NAMES and isinstance(kwargs, dict) else None

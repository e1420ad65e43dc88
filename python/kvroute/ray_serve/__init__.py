"""KV-aware routing for Ray Serve.

    @serve.deployment(request_router_config=kvroute.ray_serve.router_config(policy="kv_cost"))
    class Model(kvroute.ray_serve.KvRouteReplica): ...

Names are imported when they are asked for: what needs no Ray works without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvroute.ray_serve.calls import RoutedCall as RoutedCall
    from kvroute.ray_serve.deployment_config import router_config as router_config
    from kvroute.ray_serve.engine_facts import EngineFacts as EngineFacts
    from kvroute.ray_serve.errors import InvalidOptionsError as InvalidOptionsError
    from kvroute.ray_serve.errors import MissingTokenIdsError as MissingTokenIdsError
    from kvroute.ray_serve.errors import RouterUnavailableError as RouterUnavailableError
    from kvroute.ray_serve.handle_calls import RoutedStream as RoutedStream
    from kvroute.ray_serve.handle_calls import call as call
    from kvroute.ray_serve.handle_calls import stream as stream
    from kvroute.ray_serve.http_errors import add_error_handlers as add_error_handlers
    from kvroute.ray_serve.options import RouterOptions as RouterOptions
    from kvroute.ray_serve.replica import KvRouteReplica as KvRouteReplica
    from kvroute.ray_serve.request_router import KvRouteRequestRouter as KvRouteRequestRouter
    from kvroute.ray_serve.selection import SelectionService as SelectionService
    from kvroute.ray_serve.selection_actor import SelectionActor as SelectionActor
    from kvroute.ray_serve.selection_actor import get_selection_actor as get_selection_actor
    from kvroute.ray_serve.snapshot import snapshots as snapshots

_MODULES = {
    "EngineFacts": "engine_facts",
    "InvalidOptionsError": "errors",
    "KvRouteReplica": "replica",
    "KvRouteRequestRouter": "request_router",
    "MissingTokenIdsError": "errors",
    "RoutedCall": "calls",
    "RoutedStream": "handle_calls",
    "RouterOptions": "options",
    "RouterUnavailableError": "errors",
    "SelectionActor": "selection_actor",
    "SelectionService": "selection",
    "add_error_handlers": "http_errors",
    "call": "handle_calls",
    "get_selection_actor": "selection_actor",
    "router_config": "deployment_config",
    "snapshots": "snapshot",
    "stream": "handle_calls",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        raise ImportError(
            f"kvroute.ray_serve.{name} needs Ray Serve: pip install 'kvroute[ray]'"
        ) from error

"""Flags of vLLM production-stack's router that kvroute does not have, each with the reason.

Where kvroute has the same thing, the flag has the same name and meaning there and here.
"""

from __future__ import annotations

_KUBERNETES = "kvroute takes its engines from --static-backends"
_FILES = "kvroute forwards completions and chats only"
_TRACING = "kvroute exports Prometheus metrics (/metrics) only"
_DYNAMIC = "kvroute reads its configuration once (--config FILE); restart it to change it"

REFUSED_FLAGS: dict[str, str] = {
    "--k8s-service-discovery-type": _KUBERNETES,
    "--k8s-port": _KUBERNETES,
    "--k8s-namespace": _KUBERNETES,
    "--k8s-label-selector": _KUBERNETES,
    "--k8s-watcher-timeout-seconds": _KUBERNETES,
    "--backend-health-check-timeout-seconds": (
        "it belongs to Kubernetes discovery; see --static-backend-health-check-timeout-seconds"
    ),
    "--static-aliases": "kvroute forwards a request's model name unchanged",
    "--static-model-types": "every backend of kvroute serves completions and chats",
    "--callbacks": "write an application on kvroute.frontend.create_app instead",
    "--request-rewriter": "kvroute passes request bodies through unchanged",
    "--enable-batch-api": _FILES,
    "--file-storage-class": _FILES,
    "--file-storage-path": _FILES,
    "--batch-processor": _FILES,
    "--log-stats": "see /metrics",
    "--log-stats-interval": "see /metrics",
    "--dynamic-config-yaml": _DYNAMIC,
    "--dynamic-config-json": _DYNAMIC,
    "--feature-gates": "kvroute has no experimental features to switch",
    "--log-format": "kvroute logs text",
    "--sentry-dsn": _TRACING,
    "--sentry-traces-sample-rate": _TRACING,
    "--sentry-profile-session-sample-rate": _TRACING,
    "--otel-endpoint": _TRACING,
    "--otel-service-name": _TRACING,
    "--otel-secure": _TRACING,
    "--external-providers-config": "kvroute routes to engines, not to hosted APIs",
}

REPLACED_FLAGS = (
    "--lmcache-controller-port",
    "--lmcache-controller-reply-port",
    "--lmcache-controller-heartbeat-port",
    "--lmcache-health-check-interval",
    "--lmcache-worker-timeout",
)
"""Taken, each with a value, and not used: what they configure has its place taken by KV events."""

REPLACED_SETTINGS = frozenset(flag[2:].replace("-", "_") for flag in REPLACED_FLAGS)


def replaced(names: list[str]) -> str:
    """The one warning for all of REPLACED_FLAGS that were given."""
    verb = "is" if len(names) == 1 else "are"
    return (
        f"{', '.join(names)} {verb} not used: kvroute learns what engines hold from their own KV "
        "events (--kv-events), not from LMCache's controller"
    )

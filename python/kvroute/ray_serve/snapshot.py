"""What the routers of this process know, as plain data: for a debugging endpoint, and for tests."""

from __future__ import annotations

from typing import Any

from kvroute.ray_serve.deployment_state import DeploymentState, states


def snapshots() -> list[dict[str, Any]]:
    """One for each deployment that this process has a router for; JSON-able.

    application, deployment: their names.
    block_size: None until it is known.
    workers: by replica: held_blocks, active_requests (other processes' included), active_blocks,
        waiting, running (None where it reported nothing) and events (what came of its KV events;
        empty for a replica that publishes none), over all of its data-parallel ranks.
    bookings: requests that this process has booked and that have not ended.
    attempts: requests sent to a replica whose end Serve has not told yet.
    counters: totals by name, with `fallbacks` and `refusals` by reason.
    exchange: figures of the exchange with other processes; None without one.
    """
    return [_snapshot(state) for state in states()]


def _snapshot(state: DeploymentState) -> dict[str, Any]:
    router, counters, exchange = state.router, state.counters, state.bookings.exchange
    return {
        "application": state.app,
        "deployment": state.deployment,
        "block_size": None if router is None else router.block_size,
        "workers": {} if router is None else _workers(router),
        "bookings": len(state.bookings),
        "attempts": len(state.attempts),
        "counters": {
            **counters.totals(),
            "fallbacks": dict(counters.fallbacks),
            "refusals": dict(counters.refusals),
        },
        "exchange": None if exchange is None else exchange.stats(),
    }


def _workers(router: Any) -> dict[str, dict[str, Any]]:
    workers: dict[str, dict[str, Any]] = {}
    for target in router.stats().targets:
        known = workers.setdefault(
            str(target.worker),
            {
                "held_blocks": 0,
                "active_requests": 0,
                "active_blocks": 0,
                "waiting": target.waiting,
                "running": target.running,
                "events": target.events,
            },
        )
        for name in ("held_blocks", "active_requests", "active_blocks"):
            known[name] += getattr(target, name)
    return workers

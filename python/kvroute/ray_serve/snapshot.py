"""What the routers of this process know, as plain data: for a debugging endpoint, and for tests."""

from __future__ import annotations

from typing import Any

from kvroute.ray_serve.deployment_state import DeploymentState, states

_FIGURES = ("held_blocks", "active_requests", "active_blocks", "waiting", "running")


def snapshots() -> list[dict[str, Any]]:
    """One for each deployment that this process has a router for; JSON-able.

    application, deployment: their names.
    block_size: None until it is known.
    workers: by replica, over all of its data-parallel ranks: held_blocks, active_requests (other
        processes' included), active_blocks; waiting and running, of the ranks that reported any
        (None: none did); events, what came of its KV events, as TargetStats.events has it for one
        rank (connected and partial: of so many ranks; last_sequence: the highest).
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
    ranks: dict[str, list[Any]] = {}
    for target in router.stats().targets:
        ranks.setdefault(str(target.worker), []).append(target)
    return {name: _over_all(targets) for name, targets in ranks.items()}


def _over_all(ranks: list[Any]) -> dict[str, Any]:
    figures: dict[str, Any] = {name: _sum(ranks, name) for name in _FIGURES}
    events = [rank.events for rank in ranks]
    figures["events"] = {
        name: (max if name == "last_sequence" else sum)(one[name] for one in events)
        for name in events[0]
    }
    return figures


def _sum(ranks: list[Any], name: str) -> int | None:
    known = [value for rank in ranks if (value := getattr(rank, name)) is not None]
    return sum(known) if known else None

"""The engines of every model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from kvroute.frontend.backend import Backend
from kvroute.frontend.errors import bad_request, unknown_model
from kvroute.frontend.metrics import Metrics, WorkerMetrics
from kvroute.frontend.model_group import ModelGroup
from kvroute.frontend.protocols import RouterFactory
from kvroute.frontend.settings import BackendSettings, Settings


class Fleet:
    """Every model's group."""

    def __init__(
        self,
        settings: Settings,
        make_router: RouterFactory,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.metrics = Metrics(self.stats)
        self.groups: dict[str, ModelGroup] = {}
        by_model: dict[str, list[BackendSettings]] = {}
        for backend in settings.backends():
            by_model.setdefault(backend.model, []).append(backend)
        for model, members in by_model.items():
            router = make_router(settings.block_size, settings.policy, **settings.router_options())
            for phase, policy in settings.phase_policies.items():
                router.set_policy(policy, phase=phase)
            for member in members:
                router.add_worker(
                    member.url,
                    dp_ranks=member.dp_ranks,
                    kv_events=member.kv_events,
                    kv_replay=member.kv_replay,
                    load_events=member.load_events,
                    total_blocks=member.total_blocks,
                    labels=member.labels,
                )
            if settings.chooses_pairs:
                router.set_pair_choice(**settings.pair_options)
            self.groups[model] = ModelGroup(
                model,
                router,
                [
                    Backend(
                        member,
                        settings.block_size,
                        WorkerMetrics(self.metrics, model, member.url),
                    )
                    for member in members
                ],
                policy=settings.policy,
                phase_policies=settings.phase_policies,
                count_tokens=settings.counts_tokens,
                cooldown=settings.backend_cooldown_seconds,
                clock=clock,
            )
        if settings.is_disaggregated:
            for each in self.backends():
                each.metrics.role(each.role)

    def group(self, model: str | None) -> ModelGroup:
        """The group that serves `model`; None is the only model there is. ApiError 400 or 404."""
        if model is None:
            if len(self.groups) == 1:
                return next(iter(self.groups.values()))
            served = ", ".join(sorted(self.groups))
            raise bad_request(f"model: expected one of {served}, got nothing", "model")
        found = self.groups.get(model)
        if found is None:
            raise unknown_model(model, sorted(self.groups))
        return found

    def group_of(self, url: str) -> ModelGroup:
        """The group that has the backend. KeyError for none."""
        for group in self.groups.values():
            if url in group.backends:
                return group
        raise KeyError(url)

    def backends(self) -> Iterator[Backend]:
        """Every model's."""
        for group in self.groups.values():
            yield from group.backends.values()

    def stats(self) -> list[tuple[str, Any]]:
        """(model, RouterStats) of every group."""
        return [(name, group.router.stats()) for name, group in self.groups.items()]

    def close(self) -> None:
        with ExitStack() as closing:  # one that fails keeps no other open
            for group in self.groups.values():
                closing.callback(group.router.close)

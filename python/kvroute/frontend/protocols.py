"""What the frontend asks of a router: the part of ``kvroute.KvRouter`` that it uses.

Tests and embedders may put another object in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from kvroute.frontend.policy_choice import PolicySpec

Phase: TypeAlias = Literal["whole", "prefill", "decode"]
"""What of a request a worker is booked for."""

WorkerRef: TypeAlias = "int | str | tuple[int | str, int]"
"""A worker with all its ranks, or one of them: (worker, dp_rank)."""


class Selection(Protocol):
    """Where a request goes. See ``kvroute.Selection``."""

    @property
    def worker(self) -> int | str: ...
    @property
    def dp_rank(self) -> int: ...
    @property
    def cached_tokens(self) -> int: ...
    @property
    def prefill_tokens(self) -> int: ...
    @property
    def rule(self) -> str: ...


class Reservation(Protocol):
    """One running request's booked load. Every method is idempotent."""

    @property
    def choice(self) -> Selection: ...
    def first_token(self) -> None: ...
    def progress(self, output_tokens: int) -> None: ...
    def release(self) -> None: ...


class Router(Protocol):
    """One model's router; its workers are named by their backends' URLs.

    `reserve` raises ``kvroute.NoEligibleWorker`` where nobody can be chosen.
    """

    def add_worker(
        self,
        worker: int | str,
        dp_ranks: int = 1,
        block_size: int | None = None,
        kv_events: str | Sequence[str] | None = None,
        kv_replay: str | Sequence[str] | None = None,
        load_events: str | Sequence[str] | None = None,
        total_blocks: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None: ...
    def reserve(
        self,
        token_ids: Any,
        request_id: str | None = None,
        expected_output_tokens: int | None = None,
        allowed: Sequence[WorkerRef] | None = None,
        *,
        session_id: str | None = None,
        salt: str | None = None,
        namespace: str | None = None,
        phase: Phase = "whole",
    ) -> Reservation: ...
    def reserve_pair(
        self,
        token_ids: Any,
        request_id: str | None = None,
        expected_output_tokens: int | None = None,
        *,
        prefill_allowed: Sequence[WorkerRef] | None = None,
        decode_allowed: Sequence[WorkerRef] | None = None,
        salt: str | None = None,
        namespace: str | None = None,
    ) -> tuple[Reservation, Reservation]: ...
    def explain_pair(
        self,
        token_ids: Any,
        *,
        prefill_allowed: Sequence[WorkerRef] | None = None,
        decode_allowed: Sequence[WorkerRef] | None = None,
        salt: str | None = None,
    ) -> tuple[Any, Any]: ...
    def set_pair_choice(
        self, *, same_host: float = ..., same_zone: float = ..., elsewhere: float = ...
    ) -> None: ...
    def explain(
        self,
        token_ids: Any,
        allowed: Sequence[WorkerRef] | None = None,
        *,
        session_id: str | None = None,
        salt: str | None = None,
        phase: Phase = "whole",
    ) -> Any: ...
    def set_policy(self, policy: PolicySpec, *, phase: Phase | None = None) -> None: ...
    def recent_decisions(self, limit: int = 100) -> Sequence[Any]: ...
    def overlaps(
        self, token_ids: Any, *, salt: str | None = None
    ) -> Mapping[tuple[int | str, int], int]: ...
    def update_load(
        self,
        worker: int | str,
        dp_rank: int = 0,
        *,
        waiting: int | None = None,
        running: int | None = None,
        kv_usage: float | None = None,
        kv_tokens: int | None = None,
    ) -> None: ...
    def stats(self) -> Any: ...
    def close(self) -> None: ...


RouterFactory = Callable[..., Router]
"""Makes a model's router: ``make_router(block_size, policy, **options)``, the block size in tokens.

The options are those of ``kvroute.KvRouter`` of the same name, each only where it is configured:
max_waiting, max_kv_usage, max_prefill_tokens, prefill_tokens_per_second, attention_seconds,
load_window, report_lifetime, decision_log.
"""


def core_router(block_size: int, policy: PolicySpec, **options: Any) -> Router:
    """The router of the native core."""
    from kvroute import KvRouter

    router: Router = KvRouter(block_size=block_size, policy=policy, **options)
    return router

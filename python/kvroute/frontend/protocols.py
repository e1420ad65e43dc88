"""What the frontend asks of a router: the part of ``kvroute.KvRouter`` that it uses.

Tests and embedders may put another object in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

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
    ) -> None: ...
    def reserve(
        self,
        token_ids: Any,
        request_id: str | None = None,
        expected_output_tokens: int | None = None,
        allowed: Sequence[WorkerRef] | None = None,
        *,
        salt: str | None = None,
        namespace: str | None = None,
    ) -> Reservation: ...
    def explain(
        self,
        token_ids: Any,
        allowed: Sequence[WorkerRef] | None = None,
        *,
        salt: str | None = None,
    ) -> Any: ...
    def update_load(
        self,
        worker: int | str,
        dp_rank: int = 0,
        *,
        waiting: int | None = None,
        running: int | None = None,
        kv_usage: float | None = None,
    ) -> None: ...
    def stats(self) -> Any: ...
    def close(self) -> None: ...


RouterFactory = Callable[[int, str], Router]
"""Makes a model's router from a block size in tokens and the name of a policy."""


def core_router(block_size: int, policy: str) -> Router:
    """The router of the native core."""
    from kvroute import KvRouter

    router: Router = KvRouter(block_size=block_size, policy=policy)
    return router

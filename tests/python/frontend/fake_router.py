"""A router that counts, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import time
from array import array
from types import SimpleNamespace
from typing import Any

from kvroute import Overloaded


class FakeReservation:
    def __init__(self, router: FakeRouter, choice: Any, request_id: str, ids: list[int]) -> None:
        self.choice = choice
        self.request_id = request_id
        self.token_ids = ids
        self.first_tokens = 0
        self.output_tokens = 0
        self._router = router

    def first_token(self) -> None:
        self.first_tokens += 1

    def progress(self, output_tokens: int) -> None:
        self.output_tokens = output_tokens

    def release(self) -> None:
        self._router.running.pop(self.request_id, None)
        self._router.released.set()


class FakeRouter:
    """Chooses the allowed worker that was chosen least; keeps what it was asked."""

    def __init__(self, block_size: int, policy: Any, **options: Any) -> None:
        self.options = options
        self.block_size = block_size
        self.policy = policy
        self.workers: dict[str, dict[str, Any]] = {}
        self.chosen: dict[str, int] = {}
        self.running: dict[str, FakeReservation] = {}
        self.reservations: list[FakeReservation] = []
        self.calls: list[dict[str, Any]] = []
        self.released = asyncio.Event()
        self.dp_rank = 0
        self.room = 1 << 20
        self.closed = False
        self.loads: dict[tuple[str, int], dict[str, Any]] = {}
        self.reported = asyncio.Event()

    def add_worker(self, worker: str, **options: Any) -> None:
        self.workers[worker] = options
        self.chosen[worker] = 0

    def reserve(
        self,
        token_ids: array[int],
        request_id: str,
        expected_output_tokens: int | None = None,
        allowed: list[Any] | None = None,
        *,
        session_id: str | None = None,
        salt: str | None = None,
        namespace: str | None = None,
        phase: str = "whole",
    ) -> FakeReservation:
        assert phase == "whole"
        self.calls.append(
            {
                "token_ids": list(token_ids),
                "allowed": allowed,
                "expected": expected_output_tokens,
                "session": session_id,
                "salt": salt,
                "namespace": namespace,
            }
        )
        assert request_id not in self.running
        if not (isinstance(token_ids, array) and token_ids.typecode == "I" and token_ids):
            raise ValueError(f"token_ids: expected unsigned integers, got {token_ids!r:.80}")
        candidates = list(self.workers) if allowed is None else allowed
        if len(self.running) >= self.room:
            raise Overloaded("all are over their thresholds")
        if not candidates:
            raise RuntimeError("no workers")
        targets = [
            entry if isinstance(entry, tuple) else (entry, self.dp_rank) for entry in candidates
        ]
        worker, dp_rank = min(targets, key=lambda target: self.chosen[target[0]])
        self.chosen[worker] += 1
        choice = SimpleNamespace(
            worker=worker,
            dp_rank=dp_rank,
            cached_tokens=32,
            prefill_tokens=len(token_ids),
            rule="spread",
        )
        reservation = FakeReservation(self, choice, request_id, list(token_ids))
        self.running[request_id] = reservation
        self.reservations.append(reservation)
        self.released.clear()
        return reservation

    def explain(
        self,
        token_ids: array[int],
        allowed: list[str] | None = None,
        *,
        session_id: str | None = None,
        salt: str | None = None,
    ) -> Any:
        assert allowed is None
        assert session_id is None
        assert salt is None
        targets = [
            SimpleNamespace(
                worker=name,
                dp_rank=0,
                eligible=True,
                reason="",
                cost=1.5,
                cached_tokens=16,
                terms={"overlap": 1.0},
            )
            for name in self.workers
        ]
        return SimpleNamespace(
            policy=self.policy, rule="spread", num_tokens=len(token_ids), targets=targets
        )

    def recent_decisions(self, limit: int) -> list[Any]:
        """Of each reservation, the oldest first."""
        return [
            SimpleNamespace(
                time=time.monotonic() - 5,
                request_id=reservation.request_id,
                worker=reservation.choice.worker,
                dp_rank=reservation.choice.dp_rank,
                explanation=self.explain(array("I", reservation.token_ids)),
            )
            for reservation in self.reservations[-limit:]
        ]

    def set_policy(self, policy: Any) -> None:
        self.policy = policy

    def overlaps(self, token_ids: array[int], *, salt: str | None = None) -> dict[Any, int]:
        assert salt is None
        return {(name, 0): len(token_ids) // 2 for name in self.workers}

    def update_load(self, worker: str, dp_rank: int = 0, **figures: Any) -> None:
        assert worker in self.workers
        self.loads[worker, dp_rank] = figures
        self.reported.set()

    def stats(self) -> Any:
        targets = [
            SimpleNamespace(
                worker=name,
                dp_rank=0,
                active_requests=0,
                active_prefill_tokens=0,
                active_blocks=0,
                held_blocks=3,
                waiting=None,
                running=2,
                kv_usage=0.5,
                selections=count,
                events={"gaps": 2, "last_sequence": -1},
            )
            for name, count in self.chosen.items()
        ]
        index = SimpleNamespace(
            block_size=16,
            blocks=1,
            held=2,
            held_lower=6,
            predicted=1,
            waiting=5,
            nodes=3,
            bytes=4,
            bytes_by_kind={"waiting": 1, "nodes": 3},
            counters={"adopted": 7},
            forgotten=5,
        )
        return SimpleNamespace(
            targets=targets,
            indexes=[index],
            reservations=len(self.running),
            expired_reservations=0,
        )

    def close(self) -> None:
        self.closed = True

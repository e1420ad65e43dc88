"""Policies written in Python: costs of all targets at once, from arrays of their figures.

The core takes the figures under its locks, calls nobody while it holds them, and decides by the
costs afterwards in one step with the booking: filters, ties, temperature and reservations are as
with any policy. Where a policy fails, the router's fallback policy decides, and the failure is
counted in `stats().policy_fallbacks`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from kvroute._core import WorkerName, _Features

    Floats: TypeAlias = NDArray[np.float64]

_log = logging.getLogger("kvroute")


class Features:
    """What is known of one request and of each eligible target. An array has one float for each of
    `targets`, in their order; NaN: not known. Arrays are views and cannot be written.

    held, active: leading blocks of the prompt that the target has on its device; that its running
        requests use. block_size: tokens of each.
    host, disk, external: leading blocks that it has in any tier from the device to that one.
    confidence: how far what it is said to hold may be trusted. 1: by the engine's own events, which
        are connected and miss nothing; 0.5: by events that are not connected now, or of which a
        part was missed and cannot be had again; 0.25: no events, by this router's own decisions
        alone. Levels to compare and weigh by, not probabilities.
    cached_tokens, uncached_tokens: tokens of the prompt on its device, and all others.
    prefill_seconds: of these others, as the router's prefill model predicts.
    prefill_tokens, backlog_seconds: booked and without a first token, as tokens and as predicted
        time. backlog_left_seconds: times prefill_scale, less the seconds spent on the oldest.
    prefill_scale: measured by predicted prefill time, within 1/8 and 8, weighed with the fleet's as
        built-in policies do.
    mean_prefill_seconds, arrival_seconds: of its last bookings, the predicted time of one, and the
        time from one to the next (infinite before the second).
    first_token_seconds: mean time from `reserve` to `first_token`, over the load window.
    active_blocks, expected_output_blocks, requests, prefilling: booked.
    total_blocks: of its KV cache.
    waiting, running, kv_usage: as its engine reported, while that is fresh. report_age: in seconds.
    unreported, unfinished: requests chosen for since it reported `waiting` that have had no first
        token, or have not ended.
    recent_requests, recent_tokens: chosen for, fading with time. request_rate: a second.
    preference: weights of the request's preferred labels that it has.
    """

    held: Floats
    host: Floats
    disk: Floats
    external: Floats
    active: Floats
    confidence: Floats
    cached_tokens: Floats
    uncached_tokens: Floats
    prefill_seconds: Floats
    prefill_tokens: Floats
    backlog_seconds: Floats
    backlog_left_seconds: Floats
    prefill_scale: Floats
    mean_prefill_seconds: Floats
    arrival_seconds: Floats
    active_blocks: Floats
    expected_output_blocks: Floats
    requests: Floats
    prefilling: Floats
    total_blocks: Floats
    block_size: Floats
    waiting: Floats
    running: Floats
    kv_usage: Floats
    unreported: Floats
    unfinished: Floats
    report_age: Floats
    recent_requests: Floats
    recent_tokens: Floats
    request_rate: Floats
    first_token_seconds: Floats
    preference: Floats

    def __init__(self, native: _Features, values: Floats) -> None:
        self._native = native
        self._values = values

    def __len__(self) -> int:
        """How many targets there are."""
        return int(self._values.shape[1])

    @property
    def num_tokens(self) -> int:
        """Of the prompt."""
        return self._native.num_tokens

    @property
    def router_block_size(self) -> int:
        """Tokens of the blocks that built-in policies count costs in."""
        return self._native.router_block_size

    @property
    def session_id(self) -> str | None:
        """The request's."""
        return self._native.session_id

    @property
    def expected_output_tokens(self) -> int | None:
        """As the caller said of the request."""
        return self._native.expected_output_tokens

    @property
    def fleet(self) -> Mapping[str, float]:
        """What holds for all: `targets` of the router; its prefill model's
        `prefill_tokens_per_second` and `attention_seconds`; `prefill_scale` (measured by predicted,
        1 before the first), `prefill_seconds` (as predicted), `decode_seconds` (first token to
        end) and `output_tokens`, each the mean of the last requests, 0 before the first;
        `arrival_rate`, bookings a second and target."""
        return self._native.fleet

    @property
    def targets(self) -> list[tuple[WorkerName, int]]:
        """(worker, dp_rank) of each."""
        return self._native.targets

    @property
    def names(self) -> Sequence[str]:
        """Of the arrays."""
        return self._native.names

    def __getattr__(self, name: str) -> Floats:
        row = self._native.index(name)
        if row < 0:
            raise AttributeError(f"Features has no {name!r}; it has {', '.join(self.names)}")
        array: Floats = self._values[row]
        return array


class PythonPolicy(Protocol):
    """A policy of your own, for `KvRouter(policy=...)` and `set_policy`.

    It is called by the threads that decide, several at a time. Two attributes are read when it is
    set, if it has them: `temperature` and `sample`, the pick's parameters as of built-in policies.
    """

    def score(self, features: Features) -> ArrayLike:
        """The cost of each target, lower is better, without NaN; an infinite cost is chosen only
        if all are. Called once for each decision, with at least one target."""


class Scorer:
    """A policy of Python with what its calls need; made when it is set."""

    def __init__(self, policy: PythonPolicy) -> None:
        try:
            import numpy
        except ImportError as error:
            raise ImportError("a policy written in Python needs NumPy: install numpy") from error
        self._numpy = numpy
        self.policy = policy
        self.temperature: Any = getattr(policy, "temperature", 0.0)
        self.sample: Any = getattr(policy, "sample", 0)
        self._has_failed = False

    def __call__(self, native: _Features) -> Floats | None:
        """The costs, or None where the policy failed. The first failure is logged."""
        try:
            return self._costs(native)
        except Exception:
            if not self._has_failed:
                self._has_failed = True
                _log.warning(
                    "a policy in Python failed; the fallback policy decides, here and whenever it "
                    "fails again",
                    exc_info=True,
                )
            return None

    def _costs(self, native: _Features) -> Floats:
        numpy = self._numpy
        values = numpy.frombuffer(native.values, dtype=numpy.float64).reshape(len(native.names), -1)
        given = self.policy.score(Features(native, values))
        costs: Floats = numpy.ascontiguousarray(given, dtype=numpy.float64)
        if costs.shape != values.shape[1:]:
            raise ValueError(
                f"score: expected one cost for each of {values.shape[1]} targets, got an array of "
                f"shape {costs.shape}"
            )
        if numpy.isnan(costs).any():
            raise ValueError("score: expected costs without NaN")
        return costs

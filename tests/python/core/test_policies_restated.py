"""Built-in costs written again in Python, by the features alone: they say all that is needed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import kvroute
import numpy as np
import pytest
from engine_events import EventPublisher, eventually, offloaded, stored

FAMILIES = [list(range(first, first + 320)) for first in range(0, 4000, 1000)]
NAMES = list(range(101, 121))
WEIGHT = 3.0


class KvCost:
    def score(self, f: kvroute.Features) -> Any:
        device, host, disk, external = (
            np.minimum(depth * f.block_size, f.num_tokens)
            for depth in (f.held, f.host, f.disk, f.external)
        )
        lower = 0.75 * (host - device) + 0.25 * (disk - host) + 0.125 * (external - disk)
        prefill = np.maximum(0, f.prefill_tokens + f.num_tokens - device - lower)
        added = np.maximum(0, f.num_tokens // f.block_size - f.active)
        decode = (f.active_blocks + added) * f.block_size
        cost = (prefill + decode) / f.router_block_size + WEIGHT * f.requests
        return cost * np.exp(-np.tanh(f.preference))


class KvDelay:
    def score(self, f: kvroute.Features) -> Any:
        fleet, length = f.fleet, f.num_tokens
        s = f.prefill_scale
        known = np.minimum(np.maximum(f.held, f.active) * f.block_size, length)
        attention = fleet["attention_seconds"] * (length**2 - known**2) / 2
        w = s * ((length - known) / fleet["prefill_tokens_per_second"] + attention)
        output = fleet["output_tokens"]
        if f.expected_output_tokens is not None:
            output = f.expected_output_tokens
        added = np.maximum(0, length // f.block_size - f.active) + output / f.block_size
        used = (f.active_blocks + f.expected_output_blocks + added) / f.total_blocks
        room = fleet["decode_seconds"] * np.nan_to_num(np.maximum(0, used - 0.8))
        u = f.backlog_left_seconds + room
        rate, mean = fleet["arrival_rate"], fleet["prefill_seconds"]
        own = np.where(np.isnan(f.mean_prefill_seconds), mean, f.mean_prefill_seconds)
        k = 0.75 * rate / (1 - min(0.9, rate * fleet["prefill_scale"] * mean))
        k += 0.25 / np.maximum(f.arrival_seconds - s * own, f.arrival_seconds * 0.1)
        return u + w + k * w * (u + w / 2)


def costs(router: kvroute.KvRouter, policy: Any, prompt: list[int], asked: Any) -> dict[Any, Any]:
    router.set_policy(policy)
    explained = router.explain(prompt, **asked).targets
    return {(target.worker, target.dp_rank): target.cost for target in explained}


def expect_equal(router: kvroute.KvRouter, prompt: list[int], asked: dict[str, Any]) -> None:
    kv_cost = {"name": "kv_cost", "request_weight": WEIGHT, "external_weight": 0.125}
    for native, own in ((kv_cost, KvCost()), ("kv_delay", KvDelay())):
        expected = costs(router, native, prompt, asked)
        assert len(expected) == 5
        assert costs(router, own, prompt, asked) == pytest.approx(expected, rel=1e-9), native
    assert router.stats().policy_fallbacks == 0


def go_on(
    router: kvroute.KvRouter, chance: random.Random, running: list[kvroute.Reservation]
) -> None:
    """One thing happens to a fleet."""
    what = chance.randrange(5)
    if what == 0 and running:
        chance.choice(running).first_token()
    elif what == 1 and running:
        chance.choice(running).progress(chance.randrange(200))
    elif what == 2 and running:
        running.pop(chance.randrange(len(running))).release()
    else:
        family = chance.choice(FAMILIES)
        prompt = family[: chance.randrange(1, 320)] + [chance.randrange(9) for _ in range(40)]
        output = chance.choice([None, chance.randrange(300)])
        running.append(
            router.reserve(prompt, None, output, [(chance.choice("abc"), 0)])
            if chance.random() < 0.7
            else router.reserve(prompt, None, output)
        )


@pytest.fixture
def tiered(clock: kvroute.VirtualClock) -> Iterator[kvroute.KvRouter]:
    """Five targets, one of other blocks; two have events and lower tiers."""
    with ExitStack() as stack:
        router = stack.enter_context(kvroute.KvRouter(16, clock=clock, seed=3))
        router.add_worker("a", total_blocks=90, labels={"zone": "east"})
        router.add_worker("b", block_size=32, dp_ranks=2, total_blocks=20)
        tiers = {"c": [2, 5, 9, 14], "d": [0, 0, 0, 7]}
        for worker, depths in tiers.items():
            engine = stack.enter_context(EventPublisher())
            router.add_worker(worker, kv_events=engine.events, kv_replay=engine.replay)
            media = ["GPU", "CPU", "DISK"]
            known = max(depths)
            engine.publish(stored(NAMES[:known], FAMILIES[0][: 16 * known], medium="EXTERNAL"))
            for medium, depth in zip(media, depths, strict=False):
                if depth:
                    engine.publish(offloaded(NAMES[:depth], medium))
        for tier, depth_of_c, depth_of_d in [("device", 2, 0), ("disk", 9, 0), ("external", 14, 7)]:

            def is_known(tier: Any = tier, c: int = depth_of_c, d: int = depth_of_d) -> bool:
                found = router.overlaps(FAMILIES[0], tier=tier)
                return (found.get(("c", 0), 0), found.get(("d", 0), 0)) == (16 * c, 16 * d)

            eventually(is_known, f"what c and d have in any tier to {tier}")
        yield router


@pytest.mark.parametrize("seed", range(6))
def test_costs_equal_the_built_in_ones_on_random_states(
    tiered: kvroute.KvRouter, clock: kvroute.VirtualClock, seed: int
) -> None:
    chance = random.Random(seed)
    running: list[kvroute.Reservation] = []
    for step in range(120):
        clock.advance(chance.choice([0, 0, 0.01, 0.3]))
        go_on(tiered, chance, running)
        if step % 6 == 0:
            prompt = chance.choice(FAMILIES)[: chance.randrange(1, 320)]
            asked: dict[str, Any] = {"preferred_labels": {"zone": ("east", chance.random())}}
            if chance.random() < 0.5:
                asked["expected_output_tokens"] = chance.randrange(200)
            expect_equal(tiered, prompt, asked)

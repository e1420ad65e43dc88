"""The literature's policies against independent statements of their formulas, on random states."""

from __future__ import annotations

import itertools
import math
from typing import Any

import kvroute
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stated_fleets import known_mean, waiting_requests

Target = dict[str, Any]
NOW = 1000.0


def seconds(most: float) -> st.SearchStrategy[float]:
    return st.floats(0, most, allow_nan=False)


TARGET = st.fixed_dictionaries(
    {
        "held": st.integers(0, 80),
        "active": st.integers(0, 80),
        "block_size": st.sampled_from([16, 16, 32, 48]),
        "total_blocks": st.sampled_from([0, 500, 4000]),
        "prefill_tokens": st.integers(0, 20_000),
        "prompt_blocks": st.integers(0, 600),
        "output_blocks": st.integers(0, 90),
        "requests": st.integers(0, 200),
        "expected_output_blocks": st.integers(0, 90),
        "prefilling": st.integers(0, 2),
        "backlog_seconds": seconds(9),
        "head_seconds": seconds(5),
        "head_started": st.floats(NOW - 6, NOW),
        "prefill_scale": st.floats(0.05, 12),
        "prefill_scale_age": st.sampled_from([0.0, 15.0, 45.0, 61.0]),
        "waiting": st.integers(0, 40),
        "kv_usage": st.floats(0, 1),
    }
)
TARGETS = st.lists(TARGET, min_size=1, max_size=6)
TOKENS = st.integers(1, 2000)
FLEET = {
    "prefill_tokens_per_second": 8000,
    "attention_seconds": 2e-8,
    "prefill_seconds": 0.2,
    "decode_seconds": 7.0,
    "output_tokens": 90.0,
}


def costs(policy: str | dict[str, Any], targets: list[Target], tokens: int) -> list[float]:
    found = kvroute.score(policy, targets, num_tokens=tokens, now=NOW, fleet=FLEET)
    return [math.nan if cost is None else cost for cost in found]


def cached(target: Target, tokens: int, blocks: int | None = None) -> int:
    held = int(target["held"]) if blocks is None else blocks
    return min(tokens, held * int(target["block_size"]))


def prefill(tokens: int, known: int) -> float:
    return (tokens - known) / 8000 + 2e-8 * (tokens**2 - known**2) / 2


def scale(target: Target, of_fleet: float = 1.0) -> float:
    own = min(8.0, max(1 / 8, float(target["prefill_scale"])))
    return of_fleet + (own - of_fleet) * max(0.0, min(1.0, 1.5 - target["prefill_scale_age"] / 40))


def left(target: Target, of_fleet: float = 1.0) -> float:
    """Real seconds: what is booked and what the head has done of it, in this target's time."""
    s = scale(target, of_fleet)
    done = min(NOW - target["head_started"], s * target["head_seconds"])
    return max(0.0, s * target["backlog_seconds"] - done) if target["prefilling"] else 0.0


def ttft(target: Target, tokens: int) -> float:
    return left(target) + scale(target) * prefill(tokens, cached(target, tokens))


@settings(deadline=None)
@given(TARGETS, TOKENS)
def test_kv_delay(targets: list[Target], tokens: int) -> None:
    for target, cost in zip(targets, costs("kv_delay", targets, tokens), strict=True):
        size = target["block_size"]
        known = cached(target, tokens, max(target["held"], target["active"]))
        w = scale(target) * prefill(tokens, known)
        used = target["prompt_blocks"] + target["output_blocks"] + target["expected_output_blocks"]
        used += max(0, tokens // size - target["active"]) + 90 / size
        room = 7 * max(0, used / target["total_blocks"] - 0.8) if target["total_blocks"] else 0
        # Times are held in nanoseconds.
        assert cost == pytest.approx(left(target) + room + w, rel=1e-6, abs=2e-9)


@settings(deadline=None)
@given(TARGET, TOKENS, st.floats(0.01, 9), st.floats(0.01, 9), st.floats(0.01, 2))
def test_the_delay_of_others_in_kv_delay(
    target: Target, tokens: int, gap: float, own_gap: float, own_mean: float
) -> None:
    fleet = FLEET | {"arrivals": [NOW - gap, NOW], "arrival_memory": 32, "prefill_scale": 1.5}
    target = target | {"arrivals": [NOW - own_gap, NOW], "prefill_seconds": own_mean}
    target["total_blocks"] = 0
    cost = kvroute.score("kv_delay", [target], num_tokens=tokens, now=NOW, fleet=fleet)[0]
    known = cached(target, tokens, max(target["held"], target["active"]))
    s = scale(target, 1.5)
    u, w = left(target, 1.5), s * prefill(tokens, known)
    k = 0.75 / gap / (1 - min(0.9, 1.5 * 0.2 / gap))
    k += 0.25 / own_gap / (1 - min(0.9, s * own_mean / own_gap))
    assert cost == pytest.approx(u + w + k * (u * w + w * w / 2), rel=1e-6)


@settings(deadline=None)
@given(TARGETS, TOKENS)
def test_kv_cost_as_it_is_by_default(targets: list[Target], tokens: int) -> None:
    for target, cost in zip(targets, costs("kv_cost", targets, tokens), strict=True):
        work = (target["prefill_tokens"] + tokens - cached(target, tokens)) / 16
        used = target["prompt_blocks"] + target["output_blocks"]
        used += max(0, tokens // target["block_size"] - target["active"])
        assert cost == pytest.approx(work + used * target["block_size"] / 16)


SHARE = st.floats(0, 1)
KV_COST = st.fixed_dictionaries(
    {
        "overlap_credit": SHARE,
        "overlap_credit_decay": st.floats(0, 4),
        "prefill_scale": st.floats(0, 3),
        "request_weight": st.floats(0, 5),
        "host_weight": SHARE,
        "disk_weight": SHARE,
        "external_weight": SHARE,
        "assume_kv_reuse": st.booleans(),
        "track_prefill_tokens": st.booleans(),
        "decode_role": st.booleans(),
        "active_decode_blocks_threshold": st.sampled_from([0.05, 0.5, math.inf]),
        "active_prefill_tokens_threshold": st.sampled_from([500.0, 10_000.0, math.inf]),
    }
)
TIERS = ("held", "host", "disk", "external")
TIERED = st.tuples(TARGET, st.tuples(*[st.integers(0, 80)] * 3), st.floats(-2, 2)).map(
    lambda t: t[0] | dict(zip(TIERS[1:], t[1], strict=True)) | {"preference": t[2]}
)


def kv_cost(p: dict[str, Any], t: Target, tokens: int, least: int) -> float:
    depths = [cached(t, tokens, max(t[tier] for tier in TIERS[: i + 1])) for i in range(4)]
    gained = [depths[0], *(b - a for a, b in itertools.pairwise(depths))]
    tracked, active = p["track_prefill_tokens"], t["active"] if p["assume_kv_reuse"] else 0
    excess = (t["prefill_tokens"] - least) / 16
    decay = 1 / (1 + p["overlap_credit_decay"] * excess / math.ceil(tokens / 16))
    weights = [p["overlap_credit"] * (decay if tracked else 1)]
    weights += [p["host_weight"], p["disk_weight"], p["external_weight"]]
    credit = sum(weight * blocks / 16 for weight, blocks in zip(weights, gained, strict=True))
    work = (t["prefill_tokens"] + tokens) / 16 if tracked else 0
    used = t["prompt_blocks"] + t["output_blocks"] + max(0, tokens // t["block_size"] - active)
    decode = used * t["block_size"] / 16
    if p["decode_role"] and not tracked and p["overlap_credit"] > 0:
        decode = max(0, decode - credit)
    cost = p["prefill_scale"] * max(0, work - credit) + decode + p["request_weight"] * t["requests"]
    return float(cost * math.exp(-math.tanh(t["preference"])))


@settings(deadline=None)
@given(st.lists(TIERED, min_size=1, max_size=6), TOKENS, KV_COST)
def test_kv_cost_with_any_parameters(
    targets: list[Target], tokens: int, parameters: dict[str, Any]
) -> None:
    def is_busy(t: Target) -> bool:
        share = parameters["active_decode_blocks_threshold"] * (t["total_blocks"] or math.inf)
        return bool(
            t["prompt_blocks"] + t["output_blocks"] > share
            or t["prefill_tokens"] > parameters["active_prefill_tokens_threshold"]
        )

    all_busy = all(is_busy(t) for t in targets)
    least = min(t["prefill_tokens"] for t in targets)
    found = costs({"name": "kv_cost"} | parameters, targets, tokens)
    for target, cost in zip(targets, found, strict=True):
        expected = kv_cost(parameters, target, tokens, least)
        assert cost == pytest.approx(
            expected if all_busy or not is_busy(target) else math.inf, rel=1e-6, abs=1e-9
        )


@settings(deadline=None)
@given(TARGETS, TOKENS)
def test_ttft_and_lmetric(targets: list[Target], tokens: int) -> None:
    assert costs("ttft", targets, tokens) == pytest.approx([ttft(t, tokens) for t in targets])
    assert costs("lmetric", targets, tokens) == [
        max(1, tokens - cached(t, tokens)) * (t["requests"] + 1) for t in targets
    ]


def usages(targets: list[Target]) -> list[float]:
    """As reported; where nobody reports, of bookings. With the mean where it is not known."""
    told = [t.get("kv_usage") for t in targets]
    if all(usage is None for usage in told):
        blocks = [t["prompt_blocks"] + t["output_blocks"] for t in targets]
        totals = [t["total_blocks"] for t in targets]
        told = [used / all_ if all_ else None for used, all_ in zip(blocks, totals, strict=True)]
    return [known_mean(told) if usage is None else usage for usage in told]


@settings(deadline=None)
@given(TARGETS, TOKENS, st.data())
def test_least_load(targets: list[Target], tokens: int, data: st.DataObject) -> None:
    for target in targets:
        for name in data.draw(st.sets(st.sampled_from(["waiting", "kv_usage"]))):
            del target[name]
    found = costs("least_load", targets, tokens)
    figures = zip(targets, waiting_requests(targets), usages(targets), found, strict=True)
    for target, queue, usage, cost in figures:
        k = min(0.999, usage)
        queued = max(target["prefill_tokens"], queue * 1024)
        assert cost == pytest.approx(queued * scale(target) / 8000 + 0.15 * k / (1 - k))


WINDOW = st.lists(
    st.tuples(st.integers(900_000, 1_000_000).map(lambda ms: ms / 1000), st.integers(0, 3_000)),
    max_size=6,
).map(sorted)


@settings(deadline=None)
@given(st.lists(st.tuples(TARGET, WINDOW), min_size=1, max_size=6), TOKENS, st.floats(0, 1))
def test_preble(stated: list[tuple[Target, Any]], tokens: int, reuse: float) -> None:
    targets = [target | {"request_rate": window} for target, window in stated]
    best = max(cached(t, tokens) for t in targets)
    policy = {"name": "preble", "reuse": reuse}
    for target, cost in zip(targets, costs(policy, targets, tokens), strict=True):
        known = cached(target, tokens)
        if best > tokens - best and known < best:
            assert cost == math.inf
        else:
            # A window of 60 seconds in sixteenths, the newest among them.
            oldest = NOW // 3.75 - 15
            recent = [tokens for at, tokens in target["request_rate"] if at // 3.75 >= oldest]
            seconds = prefill(tokens, known) + (reuse * (tokens - known) + sum(recent)) / 8000
            assert cost == pytest.approx(scale(target) * seconds + 7 * len(recent))


@settings(deadline=None)
@given(TARGETS, TOKENS)
def test_weighted(targets: list[Target], tokens: int) -> None:
    queues = [t["waiting"] for t in targets]
    spread = max(queues) - min(queues)
    for target, cost in zip(targets, costs("weighted", targets, tokens), strict=True):
        full = tokens // target["block_size"]
        prefix = min(target["held"], full) / full if full else 0
        queue = (max(queues) - target["waiting"]) / spread if spread else 1
        assert cost == pytest.approx(-(3 * prefix + 2 * queue + 2 * (1 - target["kv_usage"])))


@settings(deadline=None)
@given(TARGETS, TOKENS)
def test_cache_aware(targets: list[Target], tokens: int) -> None:
    loads = [t["requests"] for t in targets]
    shares = [cached(t, tokens) / tokens for t in targets]
    imbalanced = max(loads) - min(loads) > 64 and max(loads) > 1.5 * min(loads)
    by_load = imbalanced or max(shares) <= 0.3
    expected = [float(load) for load in loads] if by_load else [-share for share in shares]
    assert costs("cache_aware", targets, tokens) == pytest.approx(expected)


@settings(deadline=None)
@given(TARGETS, TOKENS)
def test_spill(targets: list[Target], tokens: int) -> None:
    policy = {"name": "spill", "of": "lmetric", "to": "least_requests", "balance_abs": 8}
    mean = sum(t["requests"] for t in targets) / len(targets)
    hot = [t["requests"] > max(1.5 * mean, mean + 8) for t in targets]
    usual = costs("lmetric", targets, tokens)
    spilled = all(hot[i] for i, cost in enumerate(usual) if cost == min(usual))
    chosen = [float(t["requests"]) for t in targets] if spilled else usual
    expected = [math.inf if hot[i] else cost for i, cost in enumerate(chosen)]
    assert costs(policy, targets, tokens) == expected
    assert not all(hot)


@settings(deadline=None)
@given(TARGETS, st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40))
def test_prefix_hash(targets: list[Target], hashes: list[int]) -> None:
    loads = [t["requests"] for t in targets]
    most = math.ceil(1.25 * (sum(loads) + 1) / len(loads))
    found = kvroute.score(
        "prefix_hash", targets, num_tokens=16 * len(hashes), local_hashes=hashes, fleet=FLEET
    )
    assert all(cost is not None and 0 < cost <= 2 for cost in found)
    assert [cost > 1 for cost in found if cost is not None] == [load + 1 > most for load in loads]
    head = hashes[:16] + [7] * 9  # beyond the first 256 tokens nothing counts
    again = kvroute.score(
        "prefix_hash", targets, num_tokens=16 * len(head), local_hashes=head, fleet=FLEET
    )
    assert again == found or len(hashes) < 16


@settings(deadline=None)
@given(TARGETS, st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40))
def test_dual_map(targets: list[Target], hashes: list[int]) -> None:
    tokens = 16 * len(hashes)
    found = kvroute.score(
        {"name": "dual_map", "slo_seconds": 2},
        targets,
        num_tokens=tokens,
        local_hashes=hashes,
        now=NOW,
        fleet=FLEET,
    )
    pair = [t for t, c in zip(targets, found, strict=True) if c is not None and c < math.inf]
    assert len(pair) == min(2, len(targets))
    use = [(t["prompt_blocks"] + t["output_blocks"]) * t["block_size"] for t in pair]
    order = sorted(zip([-cached(t, tokens) for t in pair], use, range(len(pair)), strict=True))
    tied = len(order) > 1 and order[0][:2] == order[1][:2]
    by_cache = ttft(pair[order[0][2]], tokens) <= 2
    expected = [1 - cached(t, tokens) / tokens if by_cache else ttft(t, tokens) for t in pair]
    if not tied:
        assert [c for c in found if c is not None and c < math.inf] == pytest.approx(expected)


def test_power_of_two_takes_the_better_of_two() -> None:
    targets = [{"requests": 0}, {"requests": 1}, {"requests": 2}]
    chosen = [
        kvroute.decide("power_of_two", targets, num_tokens=16, seed=seed)[0] for seed in range(300)
    ]
    assert 160 < chosen.count(0) < 240
    assert chosen.count(2) == 0

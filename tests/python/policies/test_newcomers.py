"""New and silent targets draw everything, or nothing (sglang #39750, Dynamo #10574)."""

from __future__ import annotations

import random
from collections import Counter

import kvroute
import pytest
from virtual_fleet import LOAD_AWARE, Policy, fleet, prompt


class TestNewcomer:
    """A target that was added, against those that have long been there."""

    @staticmethod
    def share_of_newcomer(policy: Policy) -> float:
        with fleet(policy, 4) as (router, clock):
            for seed in range(400):
                with router.reserve(prompt(seed, 800)) as reservation:
                    reservation.first_token()
                clock.advance(0.1)
            router.add_worker("new", total_blocks=4096)
            counts: Counter[object] = Counter()
            for seed in range(400, 600):
                with router.reserve(prompt(seed, 800)) as reservation:
                    counts[reservation.choice.worker] += 1
                    reservation.first_token()
                clock.advance(0.1)
        return counts["new"] / counts.total()

    def test_the_fewest_requests_ever_send_it_everything(self) -> None:
        class FewestEver:
            def __init__(self) -> None:
                self.sent: Counter[object] = Counter()

            def score(self, features: kvroute.Features) -> list[float]:
                costs = [float(self.sent[target]) for target in features.targets]
                self.sent[features.targets[costs.index(min(costs))]] += 1
                return costs

        assert self.share_of_newcomer(FewestEver()) > 0.4

    @pytest.mark.parametrize("policy", sorted({*LOAD_AWARE} - {"preble", "qps"}))
    def test_it_gets_its_part(self, policy: str) -> None:
        assert 0.1 <= self.share_of_newcomer(policy) <= 0.3

    def test_under_preble_it_catches_up_with_the_others_window(self) -> None:
        assert self.share_of_newcomer("preble") > 0.4

    def test_under_qps_its_part_grows_with_the_warm_up(self) -> None:
        assert 0.05 < self.share_of_newcomer("qps") < 0.2

    @pytest.mark.parametrize("policy", ["least_loaded", "standalone", "weighted"])
    def test_it_comes_before_one_whose_requests_no_report_has_counted(self, policy: str) -> None:
        with fleet(policy, 1) as (router, clock):
            router.update_load("w0", waiting=0, running=0, kv_usage=0.1)
            running = [router.reserve(prompt(seed, 800)) for seed in range(30)]
            clock.advance(1.0)
            router.add_worker("new", total_blocks=4096)
            if policy == "least_loaded":  # which takes turns without statistics
                router.update_load("new", waiting=0, running=0, kv_usage=0.1)
            later = [router.reserve(prompt(100 + seed, 800)) for seed in range(30)]
            assert {reservation.choice.worker for reservation in later} == {"new"}
            del running


class TestSilentTarget:
    """A target that does not report, or has ceased to."""

    @staticmethod
    def share_of_silent(policy: Policy, queues: int, *, spoke_once: bool = False) -> float:
        """Four workers, of which one says nothing; the others' queues are below `queues`."""
        draw = random.Random(4)
        counts: Counter[object] = Counter()
        with fleet(policy, 4) as (router, clock):
            if spoke_once:
                router.update_load("w3", waiting=0, running=4, kv_usage=0.1)
            for seed in range(900):
                if seed % 5 == 0:
                    for number in range(3):
                        router.update_load(
                            f"w{number}", waiting=draw.randrange(queues), running=4, kv_usage=0.1
                        )
                with router.reserve(prompt(seed, 800)) as reservation:
                    counts[reservation.choice.worker] += seed >= 300  # after a minute
                    clock.advance(draw.uniform(0.8, 1.2) * 800 / 12_000)
                    reservation.first_token()
                clock.advance(0.2)
        return counts["w3"] / counts.total()

    def test_what_no_report_ends_must_not_add_up(self) -> None:
        class ReportedAndSent:
            def __init__(self) -> None:
                self.sent: Counter[object] = Counter()
                self.draw = random.Random(1)

            def score(self, features: kvroute.Features) -> list[float]:
                known = [float(waiting) for waiting in features.waiting if waiting == waiting]
                mean = sum(known) / len(known)
                costs = [
                    (mean + self.sent[target] if waiting != waiting else float(waiting))
                    + 1e-6 * self.draw.random()  # so that it knows which of equals is taken
                    for target, waiting in zip(features.targets, features.waiting, strict=True)
                ]
                self.sent[features.targets[costs.index(min(costs))]] += 1
                return costs

        assert self.share_of_silent(ReportedAndSent(), 1) < 0.02

    @pytest.mark.parametrize("queues", [1, 3, 12])
    @pytest.mark.parametrize("policy", LOAD_AWARE)
    def test_a_silent_one_gets_its_part(self, policy: str, queues: int) -> None:
        assert 0.125 <= self.share_of_silent(policy, queues) <= 0.375

    @pytest.mark.parametrize("policy", ["least_load", "standalone", "weighted"])
    def test_so_does_one_that_has_fallen_silent(self, policy: str) -> None:
        assert 0.125 <= self.share_of_silent(policy, 3, spoke_once=True) <= 0.375

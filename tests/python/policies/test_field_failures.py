"""How routers fail in the field, each as a scenario that a naive rule fails and a better one holds.

Issue numbers are those of the projects named. Each scenario drives the router's own face in virtual
time; what is asserted for the naive rule shows that the scenario bites. New and silent targets have
a module of their own, test_newcomers.
"""

from __future__ import annotations

import random
import threading
from collections import Counter

import kvroute
import pytest
from virtual_fleet import DEFAULT, INFORMED, Policy, fleet, prompt, share_of_busiest


class TestHotPrefix:
    """production-stack #884, Dynamo #737: a shared system prompt fills one of eight engines."""

    @staticmethod
    def busiest(policy: Policy) -> float:
        counts: Counter[object] = Counter()
        with fleet(policy, 8) as (router, _):
            running = []
            for seed in range(400):
                reservation = router.reserve(prompt(seed, 2_400, shared=2_000))
                counts[reservation.choice.worker] += 1
                running.append(reservation)
        return share_of_busiest(counts)

    def test_the_longest_match_alone_fills_one(self) -> None:
        assert self.busiest("kvaware") > 0.9

    @pytest.mark.parametrize("policy", [*INFORMED, "cache_aware", "lmetric", "ttft"])
    def test_load_spreads_it(self, policy: str) -> None:
        assert self.busiest(policy) < 2 / 8

    def test_a_gate_spreads_what_is_beyond_its_margins(self) -> None:
        assert self.busiest("spill") < (400 / 8 + 64 + 1) / 400


class TestBurst:
    """llm-d-router #298, #2515: identical prompts at one instant meet stale or equal figures."""

    @staticmethod
    def counts(policy: Policy, *, report: bool = True) -> Counter[object]:
        counts: Counter[object] = Counter({f"w{number}": 0 for number in range(8)})
        with fleet(policy, 8) as (router, _):
            if report:
                for number in range(8):
                    router.update_load(
                        f"w{number}", waiting=number, running=number, kv_usage=number / 20
                    )
            running = [router.reserve(prompt(1, 1_600)) for _ in range(256)]
            for reservation in running:
                counts[reservation.choice.worker] += 1
        return counts

    def test_reports_alone_send_all_to_one(self) -> None:
        stale = {"name": "weighted", "terms": {"kv_usage": 1}}
        assert max(self.counts(stale).values()) == 256

    def test_copies_that_cost_nothing_more_spread_by_chance(self) -> None:
        # Dynamo's cost counts a block once however many requests use it: all eight tie.
        counts = self.counts("kv_cost", report=False)
        assert min(counts.values()) >= 12
        assert max(counts.values()) <= 60

    def test_a_price_on_requests_spreads_it_evenly(self) -> None:
        counts = self.counts({"name": "kv_cost", "request_weight": 1}, report=False)
        assert max(counts.values()) - min(counts.values()) <= 1

    def test_kv_delay_keeps_copies_where_the_first_is_computed(self) -> None:
        # No other target could give them a first token sooner; it does not price large batches.
        counts = self.counts("kv_delay", report=False)
        assert sum(count > 0 for count in counts.values()) < 8

    @pytest.mark.parametrize("policy", ["least_requests", "least_loaded"])
    def test_least_of_current_figures_spreads_it_evenly(self, policy: str) -> None:
        counts = self.counts(policy, report=False)
        assert max(counts.values()) - min(counts.values()) <= 1

    @pytest.mark.parametrize("policy", ["least_requests", {"name": "kv_cost", "request_weight": 1}])
    def test_sixteen_threads_at_once_spread_it_as_evenly(self, policy: Policy) -> None:
        counts: Counter[object] = Counter()
        start = threading.Barrier(16)
        with fleet(policy, 8) as (router, _):
            same = prompt(1, 1_600)
            running: list[kvroute.Reservation] = []

            def send() -> None:
                start.wait(timeout=60)
                for _ in range(16):
                    running.append(router.reserve(same))

            threads = [threading.Thread(target=send) for _ in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(timeout=60)
            for reservation in running:
                counts[reservation.choice.worker] += 1
        assert counts == Counter({f"w{number}": 32 for number in range(8)})

    @pytest.mark.parametrize("policy", INFORMED)
    def test_is_the_same_under_the_same_seed(self, policy: str) -> None:
        assert self.counts(policy) == self.counts(policy)


class TestPacedTraffic:
    """AMD-AGI/Infera #103: nothing is in flight at any pick, and one of two engines gets it all."""

    @staticmethod
    def counts(policy: Policy, workers: int, requests: int, cold: float = 1) -> Counter[object]:
        """A request a second. Prefill times vary by a fifth; that of the first of all is `cold`
        times as long."""
        draw = random.Random(8)
        counts: Counter[object] = Counter()
        with fleet(policy, workers) as (router, clock):
            for seed in range(requests):
                with router.reserve(prompt(seed, 640)) as reservation:
                    counts[reservation.choice.worker] += 1
                    slowness = draw.uniform(0.8, 1.2) * (cold if seed == 0 else 1)
                    clock.advance(slowness * 640 / 12_000)
                    reservation.first_token()
                clock.advance(1.0)
        return counts

    @classmethod
    def busiest(cls, policy: Policy) -> float:
        return share_of_busiest(cls.counts(policy, 2, 448))

    def test_the_first_of_equals_gets_it_all(self) -> None:
        class FirstOfEquals:
            def score(self, features: kvroute.Features) -> list[float]:
                return [count + 1e-9 * i for i, count in enumerate(features.requests)]

        assert self.busiest(FirstOfEquals()) > 0.99

    @pytest.mark.parametrize("policy", [*INFORMED, "ttft", "least_requests", "standalone"])
    def test_equals_take_turns(self, policy: str) -> None:
        assert self.busiest(policy) < 0.6

    @pytest.mark.parametrize("policy", [*INFORMED, "ttft", "least_requests", "standalone"])
    def test_one_cold_start_is_forgiven(self, policy: str) -> None:
        counts = self.counts(policy, 4, 600, cold=20)
        assert min(counts[f"w{number}"] for number in range(4)) >= 75
        assert max(counts.values()) <= 225


class TestMissGoesBySize:
    """sglang #14305, #14532: a miss goes to the smallest tree, whatever runs there."""

    @staticmethod
    def sent_to_the_busy_one(policy: Policy) -> int:
        with fleet(policy, 4) as (router, clock):
            for seed in range(36):  # three engines have computed much, and are idle
                home = f"w{1 + seed % 3}"
                with router.reserve(prompt(seed, 4_000), allowed=[home]) as reservation:
                    clock.advance(0.4)
                    reservation.first_token()
            # The fourth one knows a single prompt, which many requests have.
            busy = [router.reserve(prompt(999, 4_000), allowed=["w0"]) for _ in range(20)]
            count = 0
            for seed in range(40):
                with router.reserve(prompt(1_000 + seed, 400)) as reservation:
                    count += reservation.choice.worker == "w0"
            del busy
        return count

    def test_the_smallest_tree_gets_all_misses(self) -> None:
        class SmallestTree:
            def __init__(self) -> None:
                self.tokens: Counter[object] = Counter()

            def score(self, features: kvroute.Features) -> list[float]:
                costs = [float(self.tokens[target]) for target in features.targets]
                at = costs.index(min(costs))
                self.tokens[features.targets[at]] += int(features.uncached_tokens[at])
                return costs

        assert self.sent_to_the_busy_one(SmallestTree()) == 40

    @pytest.mark.parametrize("policy", [*INFORMED, "cache_aware", "ttft", "lmetric"])
    def test_load_is_seen(self, policy: str) -> None:
        assert self.sent_to_the_busy_one(policy) == 0


class TestImbalanceOfOneAtATime:
    """A threshold on queues must not see requests that have come and gone between two reports."""

    def test_a_hot_prefix_stays_at_home(self) -> None:
        policy = {"name": "load_balanced_kvaware", "imbalanced_threshold": 10}
        with fleet(policy, 2) as (router, clock):
            for number in range(2):
                router.update_load(f"w{number}", waiting=0, running=0)
            homes = set()
            for seed in range(200):
                with router.reserve(prompt(seed, 1_600, shared=1_500)) as reservation:
                    assert reservation.choice.rule != "least_loaded"
                    homes.add(reservation.choice.worker)
                    reservation.first_token()
                clock.advance(0.1)
            assert len(homes) == 1


class TestPinnedSessions:
    """prime-rl #3255, verl #6533: sessions stay where they began while others are idle."""

    @staticmethod
    def busiest(policy: Policy) -> int:
        counts: Counter[object] = Counter()
        with fleet(policy, 4) as (router, _):
            running = []
            for turn in range(64):
                choice = router.reserve(prompt(turn, 800), session_id="one hot session")
                counts[choice.choice.worker] += 1
                running.append(choice)
        return max(counts.values())

    def test_a_hot_session_fills_its_home(self) -> None:
        assert self.busiest("session") == 64

    def test_a_bound_lets_it_out(self) -> None:
        assert self.busiest({"name": "session", "bounded_load": 1.25}) <= 1.25 * 64 / 4 + 1

    @pytest.mark.parametrize("policy", INFORMED)
    def test_the_default_does_not_pin(self, policy: str) -> None:
        assert self.busiest(policy) <= 64 / 4 + 2


class TestImbalanceGate:
    """vllm-project/router #238: a fleet-wide gate on counts is open nearly always."""

    @staticmethod
    def kept(policy: Policy) -> float:
        """Share of the turns after a session's first that find its cache."""
        found = turns = 0
        draw = random.Random(3)
        with fleet(policy, 8) as (router, clock):
            sessions = [prompt(seed, 1_600) for seed in range(48)]
            seen: set[int] = set()
            for _ in range(600):
                number = draw.randrange(len(sessions))
                for worker in range(8):  # queues as engines have them: uneven, and none is full
                    router.update_load(f"w{worker}", waiting=draw.randrange(3), running=4)
                with router.reserve(sessions[number]) as reservation:
                    if number in seen:
                        turns += 1
                        found += reservation.choice.cached_tokens >= 1_600
                    seen.add(number)
                    reservation.first_token()
                clock.advance(0.2)
        return found / turns

    def test_a_fleet_wide_gate_loses_the_cache(self) -> None:
        assert self.kept({"name": "load_balanced_kvaware", "imbalanced_threshold": 2}) < 0.6

    @pytest.mark.parametrize("policy", [*INFORMED, "spill", "load_balanced_kvaware"])
    def test_a_decision_for_each_request_keeps_it(self, policy: str) -> None:
        assert self.kept(policy) > 0.95


class TestLeaks:
    """vllm-project/router #215, Dynamo #13513, llm-d-router #1739: counts that never fall."""

    def test_loads_are_zero_after_every_kind_of_end(self) -> None:
        draw = random.Random(11)
        with fleet(DEFAULT, 6) as (router, clock):
            running: list[kvroute.Reservation] = []
            for step in range(3_000):
                choice = draw.random()
                if choice < 0.5 or not running:
                    running.append(router.reserve(prompt(step % 90, 320)))
                elif choice < 0.6:
                    draw.choice(running).first_token()
                elif choice < 0.7:
                    draw.choice(running).progress(draw.randrange(200))
                elif choice < 0.95:
                    ended = running.pop(draw.randrange(len(running)))
                    ended.release()
                    ended.release()
                else:
                    name = f"w{draw.randrange(6)}"
                    router.remove_worker(name)
                    router.add_worker(name, total_blocks=4096)
                clock.advance(draw.random())
            for reservation in running:
                reservation.release()
            stats = router.stats()
            assert stats.reservations == 0
            for target in stats.targets:
                assert (
                    target.active_prefill_tokens,
                    target.active_blocks,
                    target.active_requests,
                ) == (0, 0, 0)

    def test_a_worker_that_returns_does_not_inherit_bookings(self) -> None:
        with fleet(DEFAULT, 2) as (router, _):
            old = router.reserve(prompt(1, 3_200), allowed=["w0"])
            router.remove_worker("w0")
            router.add_worker("w0", total_blocks=4096)
            old.progress(100)
            old.release()
            again = next(t for t in router.stats().targets if t.worker == "w0")
            assert (again.active_prefill_tokens, again.active_blocks, again.active_requests) == (
                0,
                0,
                0,
            )

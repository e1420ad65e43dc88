"""Peers' bookings, held in a router."""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Iterator

import pytest
from kvroute import KvRouter
from kvroute.ray_serve.exchange.limits import ExchangeLimits
from kvroute.ray_serve.exchange.operations import Booked, FirstToken, Progress, Released
from kvroute.ray_serve.exchange.remote_bookings import RemoteBookings
from kvroute.ray_serve.exchange.tally import Tally
from kvroute.ray_serve.membership import DEAD_SECONDS

HASHES = array("Q", range(10))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Receiver:
    """A router with the workers w0 and w1, and peers that speak to it."""

    def __init__(self, router: KvRouter, limits: ExchangeLimits | None = None) -> None:
        self.router = router
        self.clock = Clock()
        self.tally = Tally()
        self.remote = RemoteBookings(router, limits or ExchangeLimits(), self.tally, self.clock)
        for worker in ("w0", "w1"):
            router.add_worker(worker)

    def loads(self, worker: str = "w0") -> tuple[int, int, int]:
        """Requests, blocks and prefill tokens."""
        (found,) = [one for one in self.router.stats().targets if one.worker == worker]
        return found.active_requests, found.active_blocks, found.active_prefill_tokens


@pytest.fixture
def router() -> Iterator[KvRouter]:
    with KvRouter(block_size=16, seed=1) as made:
        yield made


@pytest.fixture
def receiver(router: KvRouter) -> Receiver:
    made = Receiver(router)
    made.remote.connected("a", "first")
    return made


def booked(number: int, worker: str = "w0", **state: object) -> Booked:
    booking = Booked(number, worker, 0, 165, 30, HASHES, False, 0, False)
    return booking._replace(**state)


def test_a_booking_counts_as_one_of_this_router_until_it_is_released(receiver: Receiver) -> None:
    receiver.remote.apply("a", "first", [booked(1)])
    assert receiver.loads() == (1, 10, 165)
    receiver.remote.apply("a", "first", [FirstToken(1)])
    assert receiver.loads() == (1, 10, 0)
    receiver.remote.apply("a", "first", [Progress(1, 11)])
    assert receiver.loads() == (1, 11, 0)
    receiver.remote.apply("a", "first", [Released(1, 12)])
    assert receiver.loads() == (0, 0, 0)
    assert len(receiver.remote) == 0


def test_its_blocks_are_predicted_where_it_went(receiver: Receiver) -> None:
    receiver.remote.apply("a", "first", [booked(1, "w1", ended=True)])
    assert receiver.loads("w1") == (0, 0, 0)
    assert receiver.router.select_worker_by_hashes(HASHES, 165).cached_tokens == 160


def test_a_booking_after_its_first_token_is_no_prefill_and_measures_no_speed(
    receiver: Receiver,
) -> None:
    receiver.remote.apply("a", "first", [booked(1, first_token=True, output_tokens=27)])
    assert receiver.loads() == (1, 12, 0)
    (target, _) = receiver.router.stats().targets
    assert target.first_token_seconds is None


def test_unknown_bookings_are_passed_over(receiver: Receiver) -> None:
    receiver.remote.apply("a", "first", [FirstToken(1), Progress(2, 3), Released(3, 4)])
    assert receiver.loads() == (0, 0, 0)


def test_two_peers_may_name_bookings_alike(receiver: Receiver) -> None:
    receiver.remote.connected("b", "other")
    receiver.remote.apply("a", "first", [booked(1)])
    receiver.remote.apply("b", "other", [booked(1)])
    assert receiver.loads()[0] == 2
    receiver.remote.apply("a", "first", [Released(1, 0)])
    assert receiver.loads()[0] == 1


def test_a_peer_that_ends_on_purpose_takes_its_bookings_along(receiver: Receiver) -> None:
    receiver.remote.apply("a", "first", [booked(1), booked(2, "w1")])
    receiver.remote.disconnected("a", "first", on_purpose=True)
    assert receiver.loads() == receiver.loads("w1") == (0, 0, 0)


def test_a_peer_that_is_cut_off_has_a_grace_time(receiver: Receiver) -> None:
    receiver.remote.apply("a", "first", [booked(1)])
    receiver.remote.disconnected("a", "first", on_purpose=False)
    receiver.clock.now += 1.9
    receiver.remote.tick()
    assert receiver.loads()[0] == 1
    receiver.clock.now += 0.2
    receiver.remote.tick()
    assert receiver.loads()[0] == 0


def test_a_snapshot_replaces_bookings_without_a_dip(receiver: Receiver) -> None:
    receiver.remote.apply("a", "first", [booked(1), booked(2), booked(3)])
    receiver.remote.disconnected("a", "first", on_purpose=False)
    receiver.clock.now += 1
    receiver.remote.connected("a", "second")
    receiver.clock.now += 60
    receiver.remote.tick()
    assert receiver.loads()[0] == 3
    receiver.remote.apply("a", "second", [Released(3, 0)])
    receiver.remote.apply("a", "second", [booked(1, first_token=True), booked(4)])
    assert receiver.loads() == (3, 10, 2 * 5), "its blocks are there but for the last tokens"
    receiver.remote.snapshot_ended("a", "second")
    assert receiver.loads() == (2, 10, 5), "the second was not told again"


def test_only_the_newest_connection_of_a_peer_counts(receiver: Receiver) -> None:
    receiver.remote.apply("a", "first", [booked(1)])
    receiver.remote.connected("a", "second")
    receiver.remote.apply("a", "second", [booked(1)])
    receiver.remote.apply("a", "first", [booked(2), Released(1, 0)])
    receiver.remote.disconnected("a", "first", on_purpose=True)
    receiver.remote.snapshot_ended("a", "first")
    receiver.clock.now += 60
    receiver.remote.tick()
    assert receiver.loads()[0] == 1


def test_a_booking_waits_aside_until_its_worker_is_known(receiver: Receiver) -> None:
    receiver.remote.apply("a", "first", [booked(1, "new"), booked(2, "new"), booked(3, "new")])
    receiver.remote.apply("a", "first", [FirstToken(1), Progress(1, 11), Released(2, 0)])
    receiver.remote.tick()
    assert receiver.remote.aside == 2
    receiver.router.add_worker("new")
    receiver.remote.tick()
    assert receiver.remote.aside == 0
    assert receiver.loads("new") == (2, 11, 5)
    receiver.remote.apply("a", "first", [Released(1, 11), Released(3, 0)])
    assert receiver.loads("new") == (0, 0, 0)


def test_a_booking_on_a_draining_worker_waits_aside(receiver: Receiver) -> None:
    receiver.router.set_draining("w0", True)
    receiver.remote.apply("a", "first", [booked(1)])
    assert receiver.remote.aside == 1
    receiver.router.set_draining("w0", False)
    receiver.remote.tick()
    assert receiver.loads()[0] == 1


def test_bookings_aside_are_bounded_in_number_bytes_and_time(router: KvRouter) -> None:
    limits = ExchangeLimits(max_aside=3)
    receiver = Receiver(router, limits)
    receiver.remote.connected("a", "first")
    receiver.remote.apply("a", "first", [booked(number, "new") for number in range(5)])
    assert (receiver.remote.aside, receiver.tally.dropped) == (3, 2)
    receiver.clock.now += limits.aside_s
    receiver.remote.tick()
    assert (receiver.remote.aside, len(receiver.remote), receiver.tally.dropped) == (0, 0, 5)

    small = dataclasses.replace(limits, max_aside_bytes=200)
    remote = RemoteBookings(router, small, Tally(), receiver.clock)
    remote.connected("a", "first")
    remote.apply("a", "first", [booked(number, "new") for number in range(5)])  # 80 bytes each
    assert remote.aside == 2
    remote.apply("a", "first", [Released(0, 0), booked(9, "new")])
    assert remote.aside == 2, "room is found again"


def test_what_is_aside_is_bounded_for_each_peer(router: KvRouter) -> None:
    limits = ExchangeLimits(max_aside_per_peer=3, max_aside_bytes_per_peer=200)
    receiver = Receiver(router, limits)
    for peer in ("a", "b"):
        receiver.remote.connected(peer, "only")
    receiver.remote.apply("a", "only", [booked(number, "new") for number in range(5)])
    assert receiver.remote.aside == 2, "80 bytes each"
    short = array("Q", [1])
    bookings = [booked(number, "new", local_hashes=short) for number in range(5)]
    receiver.remote.apply("b", "only", bookings)
    assert (receiver.remote.aside, receiver.tally.dropped) == (2 + 3, 3 + 2)
    receiver.remote.disconnected("a", "only", on_purpose=True)
    receiver.remote.connected("a", "again")
    receiver.remote.apply("a", "again", [booked(1, "new")])
    assert receiver.remote.aside == 1 + 3, "room is found again"


def test_a_tick_tries_some_workers_again_and_all_in_turn(router: KvRouter) -> None:
    receiver = Receiver(router)
    receiver.remote.connected("a", "only")
    receiver.remote.apply("a", "only", [booked(number, f"n{number}") for number in range(100)])
    for number in range(100):
        router.add_worker(f"n{number}")
    receiver.remote.tick()
    assert receiver.remote.aside == 100 - 64
    receiver.remote.tick()
    assert receiver.remote.aside == 0

    receiver.remote.apply("a", "only", [booked(200 + n, f"m{n}") for n in range(100)])
    router.add_worker("m99")
    receiver.remote.tick()
    assert receiver.remote.aside == 100
    receiver.remote.tick()
    assert receiver.loads("m99")[0] == 1


def test_what_is_aside_outlasts_the_time_for_which_a_dead_replica_is_kept_out() -> None:
    assert ExchangeLimits().aside_s > DEAD_SECONDS


def test_a_worker_that_is_registered_anew_has_its_load_of_peers_again(receiver: Receiver) -> None:
    receiver.remote.apply("a", "first", [booked(1), booked(2), booked(3), booked(4, "w1")])
    receiver.remote.apply("a", "first", [FirstToken(1), Progress(1, 11), Released(2, 0)])
    before = receiver.loads()
    assert before == (2, 11, 5)
    receiver.router.remove_worker("w0")
    receiver.router.add_worker("w0")
    receiver.remote.worker_registered("w0")
    assert receiver.loads() == before
    assert receiver.loads("w1")[0] == 1
    receiver.remote.apply("a", "first", [Released(1, 11), Released(3, 0)])
    assert receiver.loads() == (0, 0, 0)


def test_load_of_peers_waits_where_a_worker_is_registered_and_gone_again(
    receiver: Receiver,
) -> None:
    receiver.remote.apply("a", "first", [booked(1)])
    receiver.router.remove_worker("w0")
    receiver.remote.worker_registered("w0")
    assert receiver.remote.aside == 1
    receiver.router.add_worker("w0")
    receiver.remote.worker_registered("w0")
    assert (receiver.remote.aside, receiver.loads()[0]) == (0, 1)


def test_counts_that_no_request_has_count_as_the_most(receiver: Receiver) -> None:
    most = 2**32 - 2
    odd = booked(1, num_tokens=most, expected_output_tokens=most, output_tokens=most)
    receiver.remote.apply("a", "first", [odd, booked(2, "w1"), Progress(2, most)])
    assert receiver.loads()[2] == 2**24
    assert receiver.loads("w1")[1] <= 10 + 2**24 // 16


def test_a_peer_that_is_gone_takes_along_what_is_aside(receiver: Receiver) -> None:
    receiver.remote.apply("a", "first", [booked(1, "new")])
    receiver.remote.disconnected("a", "first", on_purpose=True)
    assert receiver.remote.aside == 0


def test_bookings_are_bounded_for_each_peer_and_in_all(router: KvRouter) -> None:
    limits = ExchangeLimits(max_remote=5, max_remote_per_peer=3, max_remote_bytes=5 * 80)
    receiver = Receiver(router, limits)
    for peer in ("a", "b"):
        receiver.remote.connected(peer, "only")
        receiver.remote.apply(peer, "only", [booked(number) for number in range(4)])
    assert receiver.loads()[0] == len(receiver.remote) == 5
    assert receiver.tally.dropped == 3


def test_hashes_of_bookings_are_bounded_in_bytes(router: KvRouter) -> None:
    receiver = Receiver(router, ExchangeLimits(max_remote_bytes=200))
    receiver.remote.connected("a", "only")
    receiver.remote.apply("a", "only", [booked(number) for number in range(4)])
    assert (receiver.loads()[0], receiver.tally.dropped) == (2, 2)
    receiver.remote.apply("a", "only", [Released(0, 0), booked(9)])
    assert receiver.loads()[0] == 2, "room is found again"


def test_peers_are_bounded(router: KvRouter) -> None:
    receiver = Receiver(router, ExchangeLimits(max_peers=2))
    assert receiver.remote.connected("a", "only")
    assert receiver.remote.connected("b", "only")
    assert not receiver.remote.connected("c", "only")
    assert receiver.remote.connected("a", "again")


def test_what_the_router_refuses_is_dropped_and_the_rest_goes_on(receiver: Receiver) -> None:
    receiver.remote.apply("a", "first", [booked(1, num_tokens=15), booked(2)])
    assert receiver.loads()[0] == 1
    assert receiver.tally.dropped == 1


def test_a_closed_router_raises_nothing(receiver: Receiver) -> None:
    receiver.remote.apply("a", "first", [booked(1)])
    receiver.router.close()
    receiver.remote.apply("a", "first", [booked(2), Progress(1, 40), Released(1, 40)])
    receiver.remote.tick()
    receiver.remote.close()
    assert len(receiver.remote) == 0

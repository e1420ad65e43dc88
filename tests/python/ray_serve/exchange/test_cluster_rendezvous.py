"""Exchanges in processes of a real Ray cluster, which find each other by a named actor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import ray
from kvroute.ray_serve.exchange import Member
from kvroute.ray_serve.exchange.ray_rendezvous import NAMESPACE, RayRendezvous

if TYPE_CHECKING:
    from cluster_harness import Cluster

SECONDS = 120.0
"""For what takes a while on a busy machine: a process of Ray's starts."""


class RouterProcess:
    """What an ingress replica does: a router and an exchange, used from an actor's event loop."""

    def __init__(self, group: str) -> None:
        from kvroute import KvRouter
        from kvroute.ray_serve.exchange import BookingExchange

        self._router = KvRouter(block_size=16)
        self._router.add_worker("w0")
        self._exchange = BookingExchange(group, self._router, RayRendezvous(group))
        self._exchange.start()

    async def book(self, number: int) -> None:
        hashes = array("Q", range(10))
        self._router.reserve_by_hashes(hashes, 160).release()
        self._exchange.booked(number, "w0", 0, 160, hashes)

    async def stats(self) -> dict[str, int]:
        return self._exchange.stats() | {"pid": os.getpid()}

    async def close(self) -> None:
        self._exchange.close()


class Group:
    """Router processes of one deployment."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.processes: list[Any] = []

    def start(self, count: int) -> None:
        make = ray.remote(RouterProcess).options(num_cpus=0)
        self.processes += [make.remote(self.name) for _ in range(count)]

    def stats(self) -> list[dict[str, int]]:
        asked = [process.stats.remote() for process in self.processes]
        answers: list[dict[str, int]] = ray.get(asked, timeout=SECONDS)
        return answers

    def know_each_other(self) -> bool:
        others = len(self.processes) - 1
        return all(one["peers"] == one["incoming"] == others for one in self.stats())

    def book(self, place: int, number: int) -> None:
        ray.get(self.processes[place].book.remote(number), timeout=SECONDS)

    def actor(self) -> Any:
        """The rendezvous; None: there is none."""
        return find(self.name)


def find(group: str) -> Any:
    try:
        return ray.get_actor(f"exchange-1:{group}", namespace=NAMESPACE)
    except ValueError:
        return None


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < until, "it never became true"
        time.sleep(0.05)


@pytest.fixture
def group(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Group]:
    assert cluster is not None
    made = Group(request.node.name)
    yield made
    for process in made.processes:
        ray.kill(process)
    if made.actor() is not None:
        ray.kill(made.actor())


@pytest.mark.timeout(300)
def test_processes_meet_and_go_on_when_the_actor_dies(group: Group) -> None:
    group.start(3)
    eventually(group.know_each_other)
    group.book(0, 1)
    eventually(lambda: [one["remote"] for one in group.stats()] == [0, 1, 1])

    first_actor = group.actor()
    ray.kill(first_actor)
    group.book(1, 1)
    eventually(lambda: [one["remote"] for one in group.stats()] == [1, 1, 2])
    eventually(lambda: group.actor() not in (None, first_actor))
    group.start(1)
    eventually(group.know_each_other)
    eventually(lambda: group.stats()[3]["remote"] == 2)
    assert [one["connects"] for one in group.stats()] == [3, 3, 3, 3], "none was lost or refused"
    assert not any(one["rejected"] for one in group.stats())

    os.kill(group.stats()[0]["pid"], signal.SIGKILL)
    del group.processes[0]
    eventually(lambda: [one["remote"] for one in group.stats()] == [0, 1, 1])
    ray.get(group.processes[0].close.remote(), timeout=SECONDS)
    del group.processes[0]
    eventually(lambda: [one["remote"] for one in group.stats()] == [0, 0])


@pytest.mark.timeout(300)
def test_the_actor_outlives_its_maker_and_ends_when_nobody_calls(cluster: Cluster) -> None:
    assert cluster is not None

    @ray.remote(num_cpus=0)
    class Maker:
        def meet(self) -> list[str]:
            meeting = RayRendezvous("short", idle_s=6.0).meet(Member("aa", "h", 1), b"secret")
            return [one.name for one in meeting.members]

    maker = Maker.remote()
    eventually(lambda: succeeds(lambda: ray.get(maker.meet.remote(), timeout=SECONDS)))
    ray.kill(maker)
    rendezvous = RayRendezvous("short", idle_s=6.0)
    eventually(lambda: succeeds(lambda: rendezvous.meet(Member("bb", "h", 2), b"other")))
    assert rendezvous.meet(Member("bb", "h", 2), b"other").secret == b"secret"
    eventually(lambda: find("short") is None)
    eventually(lambda: succeeds(lambda: rendezvous.meet(Member("bb", "h", 2), b"other")))
    assert rendezvous.meet(Member("bb", "h", 2), b"other").secret == b"other", "made anew"
    ray.kill(find("short"))


HASTY = """
import ray
from kvroute import KvRouter
from kvroute.ray_serve.exchange import BookingExchange
from kvroute.ray_serve.exchange.ray_rendezvous import RayRendezvous
ray.init(address="{address}", log_to_driver=False, logging_level="error")
exchange = BookingExchange("hasty", KvRouter(block_size=16), RayRendezvous("hasty"))
exchange.start()
while exchange._loop is None or exchange._loop._attendance._thread is None:
    pass
"""


@pytest.mark.timeout(300)
def test_a_driver_ends_well_while_the_actor_starts(cluster: Cluster) -> None:
    assert cluster is not None
    address = ray.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, "-c", HASTY.format(address=address)],
        timeout=SECONDS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def succeeds(act: Callable[[], object]) -> bool:
    try:
        act()
    except (TimeoutError, ray.exceptions.RayError):
        return False
    return True


def test_without_ray_it_raises_and_starts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    rendezvous = RayRendezvous("nowhere")
    for call in (
        rendezvous.host,
        lambda: rendezvous.meet(Member("aa", "h", 1), b"secret"),
        lambda: rendezvous.leave("aa"),
    ):
        with pytest.raises(ConnectionError):
            call()

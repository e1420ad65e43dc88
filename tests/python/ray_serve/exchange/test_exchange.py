"""Several exchanges over real sockets, each with a router of its own."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import threading
import time
from array import array
from dataclasses import replace

import pytest
from exchange_harness import QUICK, eventually, know_each_other, members
from exchange_harness import Member as Process
from kvroute.ray_serve.exchange import LocalRendezvous, Meeting, Member
from kvroute.ray_serve.exchange.exchange_loop import ExchangeLoop
from kvroute.ray_serve.exchange.rendezvous import Rendezvous


def loop_of(process: Process) -> ExchangeLoop:
    """As soon as there is one."""
    eventually(lambda: process.exchange._loop is not None)
    loop = process.exchange._loop
    assert loop is not None
    return loop


def cut(process: Process, rng: random.Random) -> None:
    """Breaks one of its connections, as a network does."""
    loop = loop_of(process)
    outgoing = [link._transport for link, _ in list(loop._links.values())]
    incoming = [one.transport for one in list(loop.listener._connections)]
    transports = [one for one in outgoing + incoming if one is not None]
    if transports:
        loop._loop.call_soon_threadsafe(rng.choice(transports).abort)


def test_every_router_learns_of_every_booking_and_of_its_course() -> None:
    with members(3) as processes:
        first = processes[0]

        def all_say(load: dict[str, tuple[int, int, int]]) -> None:
            eventually(lambda: all(one.loads() == load for one in processes))

        first.book(1, "w2")
        all_say({"w2": (1, 10, 165)})
        first.first_token(1)
        all_say({"w2": (1, 10, 0)})
        for tokens in range(1, 30):
            first.progress(1, tokens)
        all_say({"w2": (1, 12, 0)})
        first.release(1)
        all_say({})


def test_bookings_from_before_are_told_to_whom_comes_later() -> None:
    rendezvous = LocalRendezvous()
    first = Process(rendezvous)
    for number in range(1000):
        first.book(number, f"w{number % 4}")
    first.first_token(7)
    second = Process(rendezvous)
    try:
        eventually(lambda: second.loads() == first.loads())
        assert sum(requests for requests, _, _ in second.loads().values()) == 1000
    finally:
        first.close()
        second.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_routers_agree_after_any_course_of_bookings_and_broken_connections(seed: int) -> None:
    rng = random.Random(seed)
    with members(4) as processes:
        numbers = iter(range(10_000))
        for step in range(1500):
            process = rng.choice(processes)
            running = sorted(process.own)
            act = rng.random()
            if act < 0.4 or not running:
                process.book(next(numbers), f"w{rng.randrange(4)}", rng.randrange(1, 40))
            elif act < 0.55:
                process.first_token(rng.choice(running))
            elif act < 0.7:
                process.progress(rng.choice(running), rng.randrange(200))
            else:
                process.release(rng.choice(running))
            if step % 50 == 49:
                cut(rng.choice(processes), rng)

        def load_of(process: Process) -> dict[str, tuple[int, int]]:
            return {worker: load[:2] for worker, load in process.loads().items()}

        eventually(lambda: know_each_other(processes))
        eventually(lambda: all(load_of(one) == load_of(processes[0]) for one in processes))
        assert sum(one.number("connects") for one in processes) > 12, "connections were broken"
        assert sum(len(one.own) for one in processes) > 100
        for process in processes:
            for number in list(process.own):
                process.release(number)
        eventually(lambda: not any(load_of(one) for one in processes))
        assert sum(one.number("remote") for one in processes) == 0


def test_a_process_that_closes_takes_its_bookings_along_at_once() -> None:
    patient = replace(QUICK, grace_s=1000.0)
    with members(3, patient) as processes:
        processes[0].book(1, "w0")
        eventually(lambda: all(one.loads() for one in processes))
        processes[0].exchange.close()
        eventually(lambda: not any(one.loads() for one in processes[1:]))
        eventually(lambda: know_each_other(processes[1:]))


def test_what_peers_booked_is_released_when_this_exchange_closes() -> None:
    with members(2) as (first, second):
        first.book(1, "w0")
        eventually(lambda: bool(second.loads()))
        second.exchange.close()
        assert second.loads() == {}
        assert first.loads()


def test_a_booking_on_a_worker_that_comes_later_is_counted_then() -> None:
    with members(2) as (first, second):
        first.router.add_worker("new")
        first.book(1, "new")
        eventually(lambda: second.number("aside") == 1)
        second.router.add_worker("new")
        eventually(lambda: second.loads() == first.loads())


def test_a_worker_that_is_registered_anew_has_its_load_of_peers_again() -> None:
    with members(2) as (first, second):
        first.book(1, "w0")
        eventually(lambda: second.loads() == first.loads())
        second.router.remove_worker("w0")
        second.router.add_worker("w0")
        assert second.loads() == {}
        second.exchange.worker_registered("w0")
        eventually(lambda: second.loads() == first.loads())


def test_processes_whose_blocks_differ_do_not_exchange() -> None:
    rendezvous = LocalRendezvous()
    first, second = Process(rendezvous), Process(rendezvous, block_size=32)
    try:
        eventually(lambda: first.number("rejected") > 0 and second.number("rejected") > 0)
        first.book(1, "w0")
        assert first.number("peers") == second.number("incoming") == 0
    finally:
        first.close()
        second.close()


class Failing(LocalRendezvous):
    """A rendezvous that can be gone for a while, and loses its memory then."""

    def __init__(self) -> None:
        super().__init__()
        self.gone = False
        self.calls = 0

    def host(self) -> str:
        self.calls += 1
        if self.gone:
            raise ConnectionError("gone")
        return super().host()

    def meet(self, member: Member, secret: bytes) -> Meeting:
        self.calls += 1
        if self.gone:
            super().__init__()
            self.gone = True
            raise ConnectionError("gone")
        return super().meet(member, secret)


def test_connections_outlive_the_rendezvous_and_new_ones_are_made_when_it_is_back() -> None:
    rendezvous = Failing()
    processes = [Process(rendezvous) for _ in range(3)]
    try:
        eventually(lambda: know_each_other(processes))
        rendezvous.gone = True
        eventually(lambda: all(one.number("rendezvous_failures") > 1 for one in processes))
        processes[0].book(1, "w0")
        eventually(lambda: all(one.loads() for one in processes))
        assert all(one.number("connects") == 2 for one in processes), "the connections of before"
        processes.append(Process(rendezvous))
        calls = rendezvous.calls
        eventually(lambda: rendezvous.calls > calls + 10)
        rendezvous.gone = False
        eventually(lambda: know_each_other(processes))
        eventually(lambda: bool(processes[3].loads()))
        assert all(one.number("connects") == 3 for one in processes), "all know one secret still"
    finally:
        for process in processes:
            process.close()


def test_calls_do_not_pile_up_while_there_is_no_address_to_listen_at() -> None:
    rendezvous = Failing()
    rendezvous.gone = True
    first, second = Process(rendezvous), Process(rendezvous)
    try:
        for number in range(1000):
            first.book(number, f"w{number % 4}")
        for number in range(10, 1000):
            first.release(number)
        eventually(lambda: first.exchange._outbox.waiting == 0)
        assert first.number("live") == 10
        rendezvous.gone = False
        eventually(lambda: second.loads() == first.loads())
    finally:
        first.close()
        second.close()


class Blocking(LocalRendezvous):
    """Answers only when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = threading.Event()

    def meet(self, member: Member, secret: bytes) -> Meeting:
        self.may_answer.wait(60)
        return super().meet(member, secret)


def test_close_does_not_wait_for_a_rendezvous_that_hangs() -> None:
    rendezvous = Blocking()
    process = Process(rendezvous)
    try:
        process.book(1, "w0")
        began = time.monotonic()
        process.exchange.close(timeout_s=0.2)
        assert time.monotonic() - began < 5
    finally:
        rendezvous.may_answer.set()
        process.close()


def test_calls_before_the_start_and_after_the_end_do_nothing() -> None:
    with members(2) as (first, second):
        first.exchange.close()
        first.exchange.close()
        first.exchange.start()
        first.book(1, "w0")
        first.first_token(1)
        first.release(1)
        assert first.exchange._outbox.waiting == 0
        assert second.loads() == {}


def test_an_exchange_that_was_never_started_can_be_closed() -> None:
    rendezvous: Rendezvous = LocalRendezvous()
    with members(1) as (process,):
        unused = type(process.exchange)("app/model", process.router, rendezvous)
        unused.booked(1, "w0", 0, 16, array("Q", [1]))
        assert unused.stats()["alive"] == 0
        unused.close()
        assert unused.stats()["live"] == 0


def test_an_exchange_that_has_ended_says_so() -> None:
    process = Process(LocalRendezvous())
    assert process.number("alive") == 1
    loop_of(process).end()
    eventually(lambda: process.number("alive") == 0)
    process.close()


def test_an_exchange_is_not_pickled() -> None:
    with members(1) as (process,), pytest.raises(TypeError, match="belongs to its process"):
        pickle.dumps(process.exchange)


def test_a_forked_child_exchanges_nothing_and_ends() -> None:
    with members(2) as (first, second):
        child = os.fork()
        if child == 0:
            first.exchange.booked(1, "w0", 0, 16, array("Q", [1]))
            waiting = first.exchange._outbox.waiting
            first.exchange.close()
            os._exit(waiting)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        first.book(2, "w0")
        eventually(lambda: bool(second.loads()))


FORGETFUL = """
from array import array
from kvroute import KvRouter
from kvroute.ray_serve.exchange import BookingExchange, LocalRendezvous
rendezvous = LocalRendezvous()
exchanges = []
for _ in range(3):
    router = KvRouter(block_size=16)
    router.add_worker("w0")
    exchanges.append(BookingExchange("app/model", router, rendezvous))
    exchanges[-1].start()
while any(exchange.stats()["peers"] < 2 for exchange in exchanges):
    pass
exchanges[0].booked(1, "w0", 0, 160, array("Q", range(10)))
"""


def test_the_interpreter_ends_although_nobody_closed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORGETFUL], timeout=60, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

"""The core within its process: the GIL, threads at the interpreter's exit, forks."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable

import kvroute
import pytest


def run(program: str) -> str:
    """Standard output of a Python program, which must end by itself and well."""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, f"{result.returncode}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def ticks_during(call: Callable[[], object]) -> int:
    """How often another thread gets the GIL while `call` runs, where nobody is made to yield it."""
    ticks, running, ready = 0, True, threading.Event()

    def tick() -> None:
        nonlocal ticks
        while running:
            ticks += 1
            ready.set()
            time.sleep(0)  # gives the GIL back

    interval = sys.getswitchinterval()
    sys.setswitchinterval(30)  # holds for waits that begin from now on
    try:
        thread = threading.Thread(target=tick)
        thread.start()
        ready.wait()
        before = ticks
        call()
        return ticks - before
    finally:
        running = False
        sys.setswitchinterval(interval)
        thread.join()


def test_a_decision_lets_other_threads_run() -> None:
    router = kvroute.KvRouter(16, seed=1)
    router.add_worker("w")
    prompt = array("I", range(3_000_000))  # about half a millisecond of hashing each time

    def lets_others_run(call: Callable[[], object]) -> bool:
        """Whether any of many calls does: on a busy machine the other thread may come too late."""
        return any(ticks_during(call) for _ in range(200))

    assert lets_others_run(lambda: router.select_worker(prompt))
    assert lets_others_run(lambda: kvroute.hash_blocks(prompt, 16))
    # That the measure can fail: this keeps the GIL.
    assert not lets_others_run(lambda: sum(range(100_000)))


def test_daemon_threads_in_a_call_do_not_disturb_the_exit() -> None:
    run(
        """
import threading, kvroute
from array import array
router = kvroute.KvRouter(16)
router.add_worker("w")
prompt = array("I", range(100_000))
started = threading.Barrier(5)
def work():
    started.wait()
    while True:
        with router.reserve(prompt):
            router.select_worker(prompt)
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
started.wait()
"""
    )


def test_a_router_with_its_event_thread_running_survives_the_exit() -> None:
    run(
        """
import kvroute
router = kvroute.KvRouter(16)
router.add_worker("w", kv_events="tcp://127.0.0.1:1", load_events="tcp://127.0.0.1:2")
kept = router.reserve(list(range(100)))
"""
    )


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="there is no fork")
def test_a_forked_child_refuses_the_parents_objects_and_makes_its_own() -> None:
    said = run(
        """
import os, sys, warnings
warnings.simplefilter("ignore")
import kvroute
router = kvroute.KvRouter(16)
router.add_worker("w", kv_events="tcp://127.0.0.1:1")
index = kvroute.PrefixIndex()
reservation = router.reserve([1] * 32)
sys.stdout.flush()
if os.fork() == 0:
    for call in (
        lambda: router.select_worker([1]),
        lambda: reservation.release(),
        lambda: index.match([1]),
    ):
        try:
            call()
            print("no error")
        except kvroute.KvRouteError as error:
            print(error)
    with kvroute.KvRouter(16) as fresh:
        fresh.add_worker("v", kv_events="tcp://127.0.0.1:1")
        print(fresh.select_worker([1]).worker)
    del router, reservation, index
    sys.exit(0)
_, status = os.wait()
print("child ended with", os.waitstatus_to_exitcode(status))
print(router.select_worker([1]).worker, router.stats().reservations)
"""
    )
    assert said.splitlines() == [
        "KvRouter: it was made before a fork; make one in this process",
        "Reservation: it was made before a fork, and belongs to the parent process",
        "PrefixIndex: it was made before a fork; make one in this process",
        "v",
        "child ended with 0",
        "w 1",
    ]


def test_a_forked_child_logs_and_ends() -> None:
    """Its log must not be the parent's, whose reader it does not have."""
    said = run(
        """
import logging, os, sys, threading, warnings
warnings.simplefilter("ignore")
import kvroute, zmq, struct
logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING)
parent = kvroute.KvRouter(16)          # the parent's log thread waits in the core
context = zmq.Context()
pub = context.socket(zmq.PUB)
port = pub.bind_to_random_port("tcp://127.0.0.1")
child = os.fork()
if child == 0:
    logged = threading.Event()
    class Note(logging.Handler):
        def emit(self, record): logged.set()
    logging.getLogger("kvroute").addHandler(Note())
    router = kvroute.KvRouter(16)
    router.add_worker("a", kv_events=f"tcp://127.0.0.1:{port}")
    router.add_worker("b", kv_events=f"tcp://127.0.0.1:{port}")
    ok = logged.wait(20)
    while ok and sum(t.events["undecodable"] for t in router.stats().targets) < 2:
        pass
    router.close()
    sys.exit(0 if ok else 3)
import time
deadline = time.monotonic() + 40
number = 0
while os.waitpid(child, os.WNOHANG) == (0, 0):
    if time.monotonic() > deadline:
        os.kill(child, 9)
        sys.exit("the child hangs")
    pub.send_multipart([b"", struct.pack(">Q", number), b"rubbish"])
    number += 1
    time.sleep(0.01)
context.destroy(linger=0)
print("ended")
"""
    )
    assert said.splitlines()[-1] == "ended"

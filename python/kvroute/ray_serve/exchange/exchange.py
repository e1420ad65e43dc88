"""BookingExchange: the bookings of all router processes of one deployment, in each of them."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import dataclasses
import logging
import os
import threading
import time
import weakref
from array import array
from typing import NoReturn

from kvroute.ray_serve.exchange.exchange_loop import ExchangeLoop
from kvroute.ray_serve.exchange.limits import ExchangeLimits
from kvroute.ray_serve.exchange.outbox import Outbox
from kvroute.ray_serve.exchange.remote_bookings import Router
from kvroute.ray_serve.exchange.rendezvous import Rendezvous
from kvroute.ray_serve.exchange.tally import Tally

logger = logging.getLogger(__name__)


class BookingExchange:
    """Tells the other router processes of a deployment what is booked here, and books in `router`
    what they tell, so that each of them knows the load of all.

    Each process connects to all others over TCP. What changes goes out in a batch every
    `interval_s`, after a pause at once; a booking is known everywhere some milliseconds later. No
    two machines' clocks are compared.

    The calls that tell of bookings may come from any thread, take about a microsecond, never wait
    and never raise; before `start` and after `close` they do nothing. A booking is named by a
    number of 64 bits that is never used again. What is told of an unknown one is passed over.

    A process that ends takes its bookings along: at once where it closes its exchange, after
    `limits.grace_s` where its connection breaks. A forked child has no exchange.
    """

    def __init__(
        self,
        group: str,
        router: Router,
        rendezvous: Rendezvous,
        *,
        interval_s: float = 0.005,
        host: str | None = None,
        max_live: int = 65536,
        limits: ExchangeLimits | None = None,
    ) -> None:
        """`group` names the deployment in messages for people. `host`: the address to listen at,
        as others reach it; None: what the rendezvous says. `max_live`: own bookings that peers are
        told of, in place of the limits'; further ones they are not."""
        self._group = group
        self._router = router
        self._rendezvous = rendezvous
        self._interval_s = interval_s
        self._host = host
        self._limits = dataclasses.replace(limits or ExchangeLimits(), max_live=max_live)
        self._tally = Tally()
        self._outbox = Outbox(router.block_size, self._limits, self._tally)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: ExchangeLoop | None = None
        self._open = False
        self._closed = False

    def start(self) -> None:
        """Begins in a daemon thread, and returns at once. Later calls do nothing."""
        with self._lock:
            if self._thread is not None or self._closed:
                return
            self._thread = threading.Thread(target=self._run, name="kvroute-exchange", daemon=True)
            self._open = True
            _running.add(self)
            self._thread.start()

    def close(self, timeout_s: float = 2.0) -> None:
        """Ends: peers release what was booked here, and what they booked is released. Waits for
        that at most `timeout_s`. Idempotent."""
        until = time.monotonic() + timeout_s
        with self._lock:
            self._open = False
            self._closed = True
            thread, loop = self._thread, self._loop
        _running.discard(self)
        if thread is None or not thread.is_alive() or thread is threading.current_thread():
            return
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                loop.end()
        thread.join(max(0.0, until - time.monotonic()))
        if loop is not None:
            loop.join(max(0.0, until - time.monotonic()))

    def booked(
        self,
        booking_id: int,
        worker: str,
        dp_rank: int,
        num_tokens: int,
        local_hashes: array[int],
        expected_output_tokens: int | None = None,
    ) -> None:
        """A request of this process's runs. `local_hashes`, an array('Q'), is kept: it must not
        change."""
        if self._open:
            self._outbox.booked(
                booking_id, worker, dp_rank, num_tokens, local_hashes, expected_output_tokens
            )
            self._wake()

    def first_token(self, booking_id: int) -> None:
        if self._open:
            self._outbox.first_token(booking_id)
            self._wake()

    def progress(self, booking_id: int, output_tokens: int) -> None:
        """`output_tokens` in all so far."""
        if self._open:
            self._outbox.progress(booking_id, output_tokens)
            self._wake()

    def released(self, booking_id: int, *, served: bool = True) -> None:
        """It is over. served=False: its replica did not take it, so that peers need not hear of it
        if they have not yet."""
        if self._open:
            self._outbox.released(booking_id, served)
            self._wake()

    def worker_registered(self, worker: str) -> None:
        """`router` knows the worker now, or knows it anew and has forgotten what ran there: what
        peers booked on it is booked again."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                loop.worker_registered(worker)

    def stats(self) -> dict[str, int]:
        """Counters as of Tally, and what is there now: `alive` 1 from `start` until it ends, else
        0; `live` own bookings, `remote` ones of peers, of them `aside`; `peers` that get what is
        booked here, `incoming` ones that tell."""
        loop = self._loop
        return self._tally.numbers() | {
            "alive": int(self._open),
            "live": len(self._outbox),
            "remote": len(loop.remote) if loop else 0,
            "aside": loop.remote.aside if loop else 0,
            "peers": loop.links if loop else 0,
            "incoming": loop.listener.peers if loop else 0,
        }

    def __reduce__(self) -> NoReturn:
        raise TypeError("a BookingExchange belongs to its process: it cannot be pickled")

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None and loop.asleep:
            with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                loop.wake()

    def _run(self) -> None:
        try:
            asyncio.run(self._exchange())
        except Exception:
            logger.exception("The exchange of bookings of %s has ended", self._group)
        finally:
            self._open = False

    async def _exchange(self) -> None:
        loop = ExchangeLoop(
            self._outbox,
            self._router,
            self._rendezvous,
            self._interval_s,
            self._limits,
            self._tally,
        )
        with self._lock:
            self._loop = loop
            if self._closed:
                return
        await loop.run(self._host)

    def _forget_thread(self) -> None:
        self._open = False
        self._thread = None


_running: weakref.WeakSet[BookingExchange] = weakref.WeakSet()


def _close_all() -> None:
    for exchange in list(_running):
        exchange.close(timeout_s=1.0)


def _forget_all() -> None:
    for exchange in list(_running):
        exchange._forget_thread()


atexit.register(_close_all)  # no thread is to be inside native code when the interpreter goes
os.register_at_fork(after_in_child=_forget_all)

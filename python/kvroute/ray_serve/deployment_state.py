"""What the routers of one deployment in one process share.

Ray gives each handle a router, from a class that it unpickles anew each time; all that is to be
there once is found here, by the deployment's name and options.
"""

from __future__ import annotations

import itertools
import logging
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kvroute.ray_serve.attempts import Attempts
from kvroute.ray_serve.bookings import Bookings
from kvroute.ray_serve.counters import Counters
from kvroute.ray_serve.membership import Membership
from kvroute.ray_serve.metrics import MetricsPublisher
from kvroute.ray_serve.options import RouterOptions
from kvroute.ray_serve.request_path import RequestPath
from kvroute.ray_serve.token_ids import TokenSource

if TYPE_CHECKING:
    from kvroute import KvRouter, RouterStats
    from kvroute.ray_serve.live_router import LiveRouter

_LOGGER = logging.getLogger("ray.serve")

DEFAULT_BLOCK_SIZE = 16

Key = tuple[str, str, str]

_states: dict[Key, DeploymentState] = {}
_states_lock = threading.Lock()


def attach(app: str, deployment: str, options: RouterOptions, member: Any) -> DeploymentState:
    """The state that `member`, a handle's router, shares with others of its deployment and options.
    It is closed when the last of them is gone. Raises what bad options raise."""
    key = (app, deployment, options.key())
    made: DeploymentState | None = None
    while True:
        with _states_lock:
            state = _states.get(key) if made is None else _states.setdefault(key, made)
            if state is not None:
                leaving = weakref.finalize(member, _leave_soon, key, state, state.join(member))
                break
        made = DeploymentState(app, deployment, options)  # nobody else waits for that
    leaving.atexit = False  # type: ignore[misc]  # a property, which typeshed takes for a slot
    if made is not None and made is not state:
        threading.Thread(target=made.close, name="kvroute-close", daemon=True).start()
    return state


def options_of(app: str, deployment: str) -> RouterOptions | None:
    """Of this deployment's newest state; None where no router of it is in this process."""
    found = [state for state in states() if (state.app, state.deployment) == (app, deployment)]
    return found[-1].options if found else None


def states() -> list[DeploymentState]:
    """Of all deployments that this process has a router for."""
    return list(_states.values())


def _leave_soon(key: Key, state: DeploymentState, number: int) -> None:
    """For the garbage collector, which may run while any lock is held."""
    leave = threading.Thread(target=_leave, args=(key, state, number), name="kvroute-leave")
    leave.daemon = True
    leave.start()


def _leave(key: Key, state: DeploymentState, number: int) -> None:
    with _states_lock:
        if state.leave(number):
            return
        if _states.get(key) is state:
            del _states[key]
    state.close()


class DeploymentState:
    """Thread-safe: handles may route on different event loops.

    The router is made when the block size is known: from the options, else from the first replica
    that states one, or, where a request comes before any did, the default. It is made anew when
    replicas state another one.
    """

    def __init__(self, app: str, deployment: str, options: RouterOptions) -> None:
        self.app = app
        self.deployment = deployment
        self.options = options
        self.counters = Counters()
        self.source = TokenSource(options, self.counters)
        self.bookings = Bookings()
        self.attempts = Attempts(options.reservation_ttl)
        self.membership = Membership(self.bookings, self.counters)
        self.requests = RequestPath(self)
        self.live: LiveRouter | None = None
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._members: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._present: set[int] = set()
        if options.block_size is not None:
            self._start(options.block_size)
        self._metrics = self._publish() if options.metrics else None

    def join(self, member: Any) -> int:
        """Gives the member's number, to `leave` with once it is gone."""
        number = next(self._numbers)
        self._members[member] = number
        self._present.add(number)
        return number

    def leave(self, number: int) -> bool:
        """Whether others are still there."""
        self._present.discard(number)
        self.membership.leave(number)
        return bool(self._present)

    def number_of(self, member: Any) -> int:
        return self._members[member]

    def close(self) -> None:
        """Takes up to some seconds: not for an event loop."""
        if self._metrics is not None:
            self._metrics.close()
        with self._lock:
            live, self.live = self.live, None
        self.source.close()
        if live is not None:
            live.close()

    def update_replicas(self, member: Any, replicas: Sequence[Any]) -> None:
        """The member's deployment has these RunningReplicas now. Never raises: Ray would hear of no
        replica any more."""
        try:
            self.membership.update(self._members[member], replicas)
            self._settle_block_size()
        except Exception:
            if self.counters.fell_back("update_replicas"):
                _LOGGER.exception(
                    "kvroute: the replicas of %s of %s could not be read (said once)",
                    self.deployment,
                    self.app,
                )

    def hook(self, name: str, act: Callable[..., None], *told: Any) -> None:
        """What one of Ray's hooks is here for. Never raises: Ray's own bookkeeping goes on."""
        try:
            act(*told)
        except Exception:
            if self.counters.fell_back(name):
                _LOGGER.exception(
                    "kvroute: %s of %s of %s failed (said once)", name, self.deployment, self.app
                )

    @property
    def router(self) -> KvRouter | None:
        """None until the block size is known."""
        return None if self.live is None else self.live.router

    def started_router(self) -> KvRouter:
        """A request wants it now."""
        live = self.live
        if live is not None:
            return live.router
        with self._lock:
            if self.live is None:
                self._start(DEFAULT_BLOCK_SIZE)
            assert self.live is not None
            return self.live.router

    def _settle_block_size(self) -> None:
        """The first listed replica that states a block size sets it, where the options do not. Of
        another size than so far (requests came before it, or the model was deployed anew and the
        old replicas are gone), the router is made anew: what it learned, and the load, are lost.
        """
        if self.options.block_size is not None:
            return
        with self._lock:
            stated = self.membership.block_size()
            if stated is not None and (self.live is None or self.live.router.block_size != stated):
                self._start(stated)

    def _start(self, block_size: int) -> None:
        from kvroute.ray_serve.live_router import LiveRouter

        before = self.live
        live = LiveRouter(self.app, self.deployment, self.options, block_size)
        self.bookings.drop_all()
        self.bookings.exchange = live.exchange
        self.membership.connect(live.router)
        self.live = live
        if before is not None:
            threading.Thread(target=before.close, name="kvroute-close", daemon=True).start()

    def _publish(self) -> MetricsPublisher:
        publisher = MetricsPublisher(
            application=self.app,
            deployment=self.deployment,
            counters=self.counters,
            router_stats=self._router_stats,
            interval_s=self.options.metrics_interval_s,
            exchange_stats=self._exchange_stats,
        )
        publisher.start()
        return publisher

    def _router_stats(self) -> RouterStats | None:
        router = self.router
        return None if router is None else router.stats()

    def _exchange_stats(self) -> Mapping[str, int]:
        exchange = None if self.live is None else self.live.exchange
        return {} if exchange is None else exchange.stats()

"""The rendezvous as a named Ray actor."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
import time
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from kvroute.ray_serve.exchange.rendezvous import Meeting, Member, MemberTable
from kvroute.ray_serve.exchange.wire import VERSION

NAMESPACE = "kvroute"
_CALL_S = 10.0  # the actor's start included
_LOOK_S = 0.1  # between looks at whether the answer is wanted still
_IDLE_S = 60.0


class RendezvousActor:
    """Ends by itself when no member has called for `idle_s`."""

    def __init__(self, idle_s: float = _IDLE_S) -> None:
        self._table = MemberTable()
        self._idle_s = idle_s
        self._called_at = time.monotonic()
        actor = ray.get_runtime_context().current_actor
        threading.Thread(target=self._end_when_idle, args=(actor,), daemon=True).start()

    def meet(self, member: tuple[str, str, int], secret: bytes) -> tuple[bytes, list[Any]]:
        self._called_at = time.monotonic()
        meeting = self._table.meet(Member(*member), secret)
        return meeting.secret, [tuple(other) for other in meeting.members]

    def leave(self, name: str) -> None:
        self._table.leave(name)

    def _end_when_idle(self, actor: Any) -> None:
        while True:
            idle = time.monotonic() - self._called_at
            if idle < self._idle_s:
                time.sleep(self._idle_s - idle)
                continue
            with contextlib.suppress(RayError):  # the cluster's head is away: again later
                ray.kill(actor)
            time.sleep(self._idle_s)


class RayRendezvous:
    """A Rendezvous. The first member that calls makes the actor, on its own node where that lives,
    since kvroute is there; a dead one is made anew, and members bring their secret along.

    The actor is detached: it outlives the replica that made it, and the job. It needs no CPU. Every
    call waits at most some seconds, and raises where Ray is not connected or does not answer.
    """

    def __init__(self, group: str, *, idle_s: float = _IDLE_S) -> None:
        """`group` names the deployment, and how it is routed, in the cluster."""
        self._name = f"exchange-{VERSION}:{group}"
        self._idle_s = idle_s
        self._actor: Any = None
        self._closed = threading.Event()

    def host(self) -> str:
        self._require_ray()
        return str(ray.util.get_node_ip_address())

    def meet(self, member: Member, secret: bytes) -> Meeting:
        self._require_ray()
        try:
            if self._actor is None:
                self._actor = self._get_or_create()
            answer = self._answer(self._actor.meet.remote(tuple(member), secret))
        except TimeoutError:  # it starts, or its node is busy: it is still the one
            raise
        except Exception:
            self._actor = None
            raise
        return Meeting(answer[0], [Member(*other) for other in answer[1]])

    def leave(self, name: str) -> None:
        self._require_ray()
        if self._actor is not None:
            self._actor.leave.remote(name)

    def close(self) -> None:
        self._closed.set()

    # In no call of Ray's, which ends the process where Ray is shut down meanwhile.
    def _answer(self, call: Any) -> Any:
        answer = call.future()
        until = time.monotonic() + _CALL_S
        while not self._closed.is_set() and time.monotonic() < until:
            if concurrent.futures.wait([answer], _LOOK_S).done:
                return answer.result()
        raise TimeoutError("the rendezvous actor does not answer")

    # Any call to a Ray that is not connected would start a cluster.
    def _require_ray(self) -> None:
        if not ray.is_initialized():
            raise ConnectionError("Ray is not connected")

    def _get_or_create(self) -> Any:
        node = ray.get_runtime_context().get_node_id()
        actor = ray.remote(RendezvousActor)
        return actor.options(
            name=self._name,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True),
        ).remote(self._idle_s)

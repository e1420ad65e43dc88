"""The engines of one model: which of them may take a request, and the booking of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from kvroute.frontend.backend import Backend
from kvroute.frontend.booking import Booking, PairBooking
from kvroute.frontend.disagg_settings import Role
from kvroute.frontend.errors import ApiError, no_backend
from kvroute.frontend.policy_choice import PolicySpec, needs_tokens
from kvroute.frontend.prompts import TokenIds
from kvroute.frontend.protocols import Phase, Reservation, Router, Selection, WorkerRef
from kvroute.frontend.reserving import NoPrefillWorkerError, Reserving, refusals

_WORKER_OF: Mapping[Phase, str] = {"prefill": "prefill worker", "decode": "decode worker"}


def _nothing() -> None:
    pass


class ModelGroup:
    """The engines that serve one model, and their router."""

    def __init__(
        self,
        name: str,
        router: Router,
        backends: list[Backend],
        *,
        policy: PolicySpec,
        phase_policies: Mapping[Phase, PolicySpec],
        count_tokens: bool,
        cooldown: float,
        clock: Callable[[], float],
    ) -> None:
        """The router decides by `policy`, and by `phase_policies` where one of these is for the
        phase. `count_tokens`: tokens are needed whatever the policies, since they are counted."""
        self.name = name
        self.router = router
        self.backends = {backend.url: backend for backend in backends}
        self.policy = policy
        self.phase_policies = dict(phase_policies)
        self._count_tokens = count_tokens
        self.needs_tokens = self._needs_tokens()
        self.made_room: Callable[[], None] = _nothing
        """Called when a backend may have got room: whoever waits for it is told."""
        self._cooldown = cooldown
        self._clock = clock
        self._resting = False
        self.has_roles = any(backend.role != "both" for backend in backends)
        """Whether not every backend serves every phase."""
        self._numbers = itertools.count()
        self._turn = itertools.count()

    def reserve(
        self,
        prompts: Sequence[TokenIds],
        copies: int,
        *,
        request_id: str,
        session_id: str | None,
        salt: str | None,
        expected_output_tokens: int | None,
        excluded: set[str],
        phase: Phase = "whole",
        at: Selection | None = None,
    ) -> Booking:
        """Chooses a target by the first prompt and books all prompts and copies on it; of the
        target `at` alone, where one is given.

        `prompts` has the token ids of at least one prompt; empty are unknown ones, booked as a
        single token that matches nothing. An unknown first prompt goes where there is room.
        Raises ApiError 503 where nobody can be chosen, OverloadedError where that is because all
        are over their thresholds.
        """
        asked = self._reserving(request_id, expected_output_tokens, session_id, salt)
        allowed: Sequence[WorkerRef] | None = self._allowed(excluded, phase)
        if at is not None:
            if allowed is not None and at.worker not in allowed:
                raise no_backend(f"{at.worker} takes no {phase} requests now")
            allowed = [(at.worker, at.dp_rank)]
        with refusals():
            first = asked.one(prompts[0], allowed, phase)
            return self._booking(asked.all_of(first, prompts, copies, phase))

    def reserve_pair(
        self,
        prompts: Sequence[TokenIds],
        copies: int,
        *,
        request_id: str,
        salt: str | None,
        expected_output_tokens: int | None,
        excluded_prefill: set[str],
        excluded_decode: set[str],
    ) -> PairBooking:
        """The same for both legs of a request, prefill and decode, whose targets are chosen
        together. NoPrefillWorkerError where nobody takes the first, else raises as `reserve`."""
        asked = self._reserving(request_id, expected_output_tokens, None, salt)
        decode_allowed = self._allowed(excluded_decode, "decode")
        try:
            prefill_allowed = self._allowed(excluded_prefill, "prefill")
        except ApiError as error:
            raise NoPrefillWorkerError(overloaded=False) from error
        with refusals(), ExitStack() as undoing:
            prefill, decode = asked.pair(prompts[0], prefill_allowed, decode_allowed)
            undoing.callback(decode.release)
            prefills = self._booking(asked.all_of(prefill, prompts, copies, "prefill"))
            undoing.callback(prefills.release)
            decodes = self._booking(asked.all_of(decode, prompts, copies, "decode"))
            undoing.pop_all()
            return PairBooking(prefills, decodes)

    def _reserving(
        self,
        request_id: str,
        expected_output_tokens: int | None,
        session_id: str | None,
        salt: str | None,
    ) -> Reserving:
        return Reserving(
            self.router,
            lambda: f"{request_id}#{next(self._numbers)}",
            expected_output_tokens,
            session_id,
            salt,
        )

    def _booking(self, reservations: list[Reservation]) -> Booking:
        backend = self.backends[str(reservations[0].choice.worker)]
        return Booking(backend, reservations, self.made_room)

    def explain(
        self,
        token_ids: TokenIds,
        session_id: str | None,
        salt: str | None,
        phase: Phase = "whole",
    ) -> Any:
        """The router's explanation for a prompt. Raises ApiError as `reserve`."""
        with refusals():
            if phase == "whole":
                return self.router.explain(token_ids, session_id=session_id, salt=salt)
            return self.router.explain(
                token_ids,
                self._allowed(set(), phase),
                session_id=session_id,
                salt=salt,
                phase=phase,
            )

    def explain_pair(self, token_ids: TokenIds, salt: str | None) -> dict[Phase, Any]:
        """The same for both legs, their targets chosen together."""
        allowed = (self._allowed(set(), "prefill"), self._allowed(set(), "decode"))
        with refusals():
            prefill, decode = self.router.explain_pair(
                token_ids, prefill_allowed=allowed[0], decode_allowed=allowed[1], salt=salt
            )
            return {"prefill": prefill, "decode": decode}

    def set_policy(self, policy: PolicySpec, phase: Phase | None = None) -> None:
        """From the next request on, of this phase alone where one is given. Raises ValueError, and
        changes nothing, for what is none."""
        needs_tokens(policy)
        if phase is None:
            self.router.set_policy(policy)
            self.policy = policy
        else:
            self.router.set_policy(policy, phase=phase)
            self.phase_policies[phase] = policy
        self.needs_tokens = self._needs_tokens()

    def _needs_tokens(self) -> bool:
        return self._count_tokens or any(
            map(needs_tokens, (self.policy, *self.phase_policies.values()))
        )

    def longest_match(self, token_ids: TokenIds, salt: str | None, phase: Phase = "whole") -> int:
        """Leading tokens that the backend which holds the most of them holds, of those whose role
        lets them serve it."""
        overlaps = self.router.overlaps(token_ids, salt=salt)
        return max(
            (
                tokens
                for (worker, _), tokens in overlaps.items()
                if (backend := self.backends.get(str(worker))) is not None and backend.serves(phase)
            ),
            default=0,
        )

    def failed(self, backend: Backend) -> None:
        """The backend cannot be reached, or answers 5xx: it rests while others can take its
        requests."""
        if self._cooldown > 0:
            self._resting = True
            backend.rest(self._clock() + self._cooldown)

    def answered(self, backend: Backend) -> None:
        """The backend answered, and with no error: it need not rest."""
        if self._resting:
            backend.rest(0.0)

    def count(self, phase: Phase) -> int:
        """How many backends have a role for it."""
        return sum(backend.serves(phase) for backend in self.backends.values())

    def count_ready(self, phase: Phase) -> int:
        """How many of them are healthy."""
        return sum(b.healthy and b.serves(phase) for b in self.backends.values())

    def set_role(self, url: str, role: Role) -> None:
        """From the next request on; what runs there goes on, and index and load stay. KeyError for
        an unknown backend."""
        backend = self.backends[url]
        backend.metrics.role(role, before=backend.role)
        backend.role = role
        self.has_roles = any(backend.role != "both" for backend in self.backends.values())
        self.made_room()

    def in_turn(self) -> Iterator[Backend]:
        """The backends that take requests, beginning at another one each time; where none does,
        the healthy ones, though they rest."""
        now = self._clock()
        healthy = [backend for backend in self.backends.values() if backend.healthy]
        backends = [backend for backend in healthy if backend.takes_requests(now)] or healthy
        start = next(self._turn)
        for offset in range(len(backends)):
            yield backends[(start + offset) % len(backends)]

    def set_healthy(self, backend: Backend, healthy: bool) -> None:
        backend.set_healthy(healthy)

    def takes_requests(self) -> bool:
        """Whether a request would find backends that are healthy and do not rest."""
        now = self._clock()
        ready = [backend for backend in self.backends.values() if backend.takes_requests(now)]

        def served(phase: Phase) -> bool:
            return any(backend.serves(phase) for backend in ready)

        return served("whole") or (served("prefill") and served("decode"))

    def states(self) -> dict[str, bool]:
        """By URL, whether a backend takes requests: healthy and not resting."""
        now = self._clock()
        return {url: backend.takes_requests(now) for url, backend in self.backends.items()}

    def described(self) -> list[dict[str, Any]]:
        """Each backend as it is now, for JSON."""
        now = self._clock()
        return [
            {
                "worker": backend.url,
                "role": backend.role,
                "dp_ranks": backend.dp_ranks,
                "healthy": backend.healthy,
                "takes_requests": backend.takes_requests(now),
                "requests_in_flight": backend.running,
            }
            for backend in self.backends.values()
        ]

    def _allowed(self, excluded: set[str], phase: Phase) -> list[str] | None:
        """Names of the workers that may be chosen; None for all of them."""
        all_healthy = all(backend.healthy for backend in self.backends.values())
        if not excluded and all_healthy and not self._resting and not self.has_roles:
            return None
        healthy = [
            backend
            for url, backend in self.backends.items()
            if backend.healthy and url not in excluded and backend.serves(phase)
        ]
        if not healthy:
            raise no_backend(f"no healthy {self._kind(phase)} serves the model {self.name!r}")
        now = self._clock()
        ready = [backend for backend in healthy if backend.takes_requests(now)]
        if all(backend.takes_requests(now) for backend in self.backends.values()):
            self._resting = False
        return [backend.url for backend in ready or healthy]

    def _kind(self, phase: Phase) -> str:
        """What serves the phase, in words."""
        if not self.has_roles:
            return "backend"
        if phase == "whole" and not all(b.decoder_serves_whole for b in self.backends.values()):
            return "worker of whole requests"
        return _WORKER_OF.get(phase, "decode worker")

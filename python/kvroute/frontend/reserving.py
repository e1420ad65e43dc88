"""A request's reservations: all of its prompts and copies on one target, or one for each leg."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from kvroute import NoEligibleWorker, Overloaded
from kvroute.frontend.errors import bad_request, no_backend
from kvroute.frontend.prompts import MAX_PLANNED, NO_TOKENS, TokenIds
from kvroute.frontend.protocols import Phase, Reservation, Router, WorkerRef

# Beyond so many tokens in all, further prompts and copies of a request are booked without theirs.
_MAX_BOOKED_TOKENS = 1 << 20
# Stands in for a prompt whose tokens are unknown: in a namespace of its own it matches nothing.
_UNKNOWN_PROMPT = array("I", [0])
_UNKNOWN_NAMESPACE = "kvroute:unknown-prompt"


class OverloadedError(Exception):
    """Every backend that may take the request is over its thresholds."""


class NoPrefillWorkerError(Exception):
    """Nobody takes the prefill leg of a pair, be it because all are `overloaded`."""

    def __init__(self, *, overloaded: bool) -> None:
        super().__init__("no prefill worker takes the request")
        self.overloaded = overloaded


@contextmanager
def refusals() -> Iterator[None]:
    """Raises in place of the router's own refusals what they are to a client: InvalidArgument 400,
    NoEligibleWorker 503, but for OverloadedError."""
    try:
        yield
    except Overloaded as error:
        raise OverloadedError(str(error)) from error
    except ValueError as error:
        raise bad_request(f"prompt: {error}", "prompt") from error
    except RuntimeError as error:
        raise no_backend(str(error)) from error


@dataclass(frozen=True, slots=True)
class Reserving:
    """What all reservations of a request have in common. `next_id` names each of them.

    The token ids of an unknown prompt are empty: it is booked as a single token that matches
    nothing, so that it goes where there is room.
    """

    router: Router
    next_id: Callable[[], str]
    expected_output_tokens: int | None
    session_id: str | None
    salt: str | None

    def one(self, ids: TokenIds, allowed: Sequence[WorkerRef] | None, phase: Phase) -> Reservation:
        """A reservation for a prompt."""
        return self.router.reserve(
            ids or _UNKNOWN_PROMPT,
            self.next_id(),
            1 if phase == "prefill" else self.expected_output_tokens,
            allowed,
            session_id=self.session_id,
            salt=self.salt,
            namespace=None if ids else _UNKNOWN_NAMESPACE,
            phase=phase,
        )

    def pair(
        self,
        ids: TokenIds,
        prefill_allowed: Sequence[WorkerRef] | None,
        decode_allowed: Sequence[WorkerRef] | None,
    ) -> tuple[Reservation, Reservation]:
        """Reservations for both legs of a prompt, their targets chosen together. Raises
        NoPrefillWorkerError where nobody takes the first."""
        try:
            return self.router.reserve_pair(
                ids or _UNKNOWN_PROMPT,
                self.next_id(),
                self.expected_output_tokens,
                prefill_allowed=prefill_allowed,
                decode_allowed=decode_allowed,
                salt=self.salt,
                namespace=None if ids else _UNKNOWN_NAMESPACE,
            )
        except NoEligibleWorker as error:
            if error.phase != "prefill":
                raise
            raise NoPrefillWorkerError(overloaded=isinstance(error, Overloaded)) from error

    def all_of(
        self, first: Reservation, prompts: Sequence[TokenIds], copies: int, phase: Phase
    ) -> list[Reservation]:
        """The first prompt's, and those of all further prompts and copies on its target. Where one
        of them cannot be had, all are released."""
        planned = itertools.chain.from_iterable(itertools.repeat(ids, copies) for ids in prompts)
        target = [(first.choice.worker, first.choice.dp_rank)]
        reservations = [first]
        booked_tokens = len(prompts[0])
        try:
            for ids in itertools.islice(planned, 1, MAX_PLANNED):
                booked_tokens += len(ids)
                fits = booked_tokens <= _MAX_BOOKED_TOKENS
                reservations.append(self.one(ids if fits else NO_TOKENS, target, phase))
        except Overloaded:
            pass  # the first was let in, and fills the target: the others go with it, not booked
        except BaseException:
            for reservation in reservations:
                reservation.release()
            raise
        return reservations

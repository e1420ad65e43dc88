"""A reservation that tells its queue when it ends."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any


class AdmittedReservation:
    """A ``kvroute.Reservation`` from an `AdmissionQueue`: the same methods, from the queue's event
    loop. The first token and the release make room, so they wake those that wait."""

    def __init__(self, reservation: Any, made_room: Callable[[], None]) -> None:
        self._reservation = reservation
        self._made_room = made_room

    @property
    def choice(self) -> Any:
        return self._reservation.choice

    @property
    def request_id(self) -> str:
        request_id: str = self._reservation.request_id
        return request_id

    @property
    def released(self) -> bool:
        released: bool = self._reservation.released
        return released

    def first_token(self) -> None:
        self._reservation.first_token()
        self._made_room()

    def progress(self, output_tokens: int) -> None:
        self._reservation.progress(output_tokens)

    def release(self, output_token_ids: Any = None) -> None:
        self._reservation.release(output_token_ids)
        self._made_room()

    def __enter__(self) -> AdmittedReservation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

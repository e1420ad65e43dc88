"""Where a generated text ends, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvroute.engines.output_text import OutputText


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of one generation, known when it begins.

    Attributes:
        tokens: how many are generated.
        reason: "stop" or "length".
        stop: the stop string that ended it; None for none.
        shown: characters of its text before that string; None for all.
    """

    tokens: int
    reason: str
    stop: str | None = None
    shown: int | None = None


def ending_of(
    text: OutputText,
    max_tokens: int | None,
    room: int,
    *,
    least: int = 0,
    stops: Sequence[str] = (),
) -> Ending:
    """Of a text that may have `max_tokens`; without such a limit it ends where it would by itself,
    or with the `room` that is left. No stop string ends it before `least` tokens."""
    if max_tokens is None:
        most = max(1, room)
        natural = text.natural_end(max(1, least), most)
        ending = Ending(most, "length") if natural is None else Ending(natural, "stop")
    else:
        ending = Ending(max_tokens, "length")
    stopped = text.end_of(stops, max(1, least), min(ending.tokens, max(1, room)))
    if stopped is None:
        return ending
    tokens, shown, stop = stopped
    return Ending(tokens, "stop", stop, shown)

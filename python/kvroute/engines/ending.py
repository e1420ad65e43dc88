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
        stop: the stop string, or the id of the stop token, that ended it; None for none.
        shown: characters of its text before that; None for all.
    """

    tokens: int
    reason: str
    stop: str | int | None = None
    shown: int | None = None


def ending_of(
    text: OutputText,
    max_tokens: int | None,
    room: int,
    *,
    least: int = 0,
    stops: Sequence[str] = (),
    stop_token_ids: Sequence[int] = (),
) -> Ending:
    """Of a text that may have `max_tokens`; without such a limit it ends where it would by itself,
    or with the `room` that is left. It does not end by itself before `least` tokens, and no
    stop string and no stop token is among the first `least`, as in vLLM (``min_tokens``)."""
    if max_tokens is None:
        most = max(1, room)
        natural = text.natural_end(max(1, least), most)
        ending = Ending(most, "length") if natural is None else Ending(natural, "stop")
    else:
        ending = Ending(max_tokens, "length")
    most = min(ending.tokens, max(1, room))
    count = text.first_of(stop_token_ids, least + 1, most)
    if count is not None:
        most = count - 1  # that token shows nothing which could complete a stop string
        stop_token = text.ids(most, count)[0]
        ending = Ending(count, "stop", stop_token, len(text.text(0, most)))
    stopped = text.end_of(stops, least + 1, most)
    if stopped is None:
        return ending
    tokens, shown, stop = stopped
    return Ending(tokens, "stop", stop, shown)

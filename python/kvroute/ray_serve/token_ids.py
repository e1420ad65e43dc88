"""Where a request's token ids are, seen from the router.

`TokenSource.read` runs on the event loop that routes every request of the process: it looks at two
ids of a prompt, whatever its length, and leaves the rest to the core, which checks them all.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvroute.ray_serve.calls import CallTokenIds, RoutedCall
from kvroute.ray_serve.options import RouterOptions


@dataclass(slots=True)
class Prompt:
    """What is known of a request before it is routed. `token_ids` are as they were given: a list,
    a tuple, an array or another buffer of integers, never empty."""

    token_ids: Any
    session_id: str | None = None
    lora: str | None = None
    expected_output_tokens: int | None = None
    call: RoutedCall | None = None


class TokenSource:
    """Finds the token ids of pending requests as the options say. For one event loop."""

    def __init__(self, options: RouterOptions) -> None:
        self._keyword = options.token_ids_keyword

    @property
    def computes(self) -> bool:
        """Whether `compute` may find what `read` does not."""
        return False

    def read(self, pending: Any) -> Prompt | None:
        """The ids that came with the request, or None. Takes microseconds; never raises."""
        ids = pending.kwargs.get(self._keyword)
        if not _plausible(ids):
            return None
        return self._prompt(pending, ids)

    async def compute(self, pending: Any) -> Prompt | None:  # noqa: ARG002
        """The ids of the prompt or chat in the request, or None. Never raises."""
        return None

    def _prompt(self, pending: Any, ids: Any) -> Prompt:
        call = ids.call if type(ids) is CallTokenIds else None
        expected = call.expected_output_tokens if call is not None else None
        if expected is None and pending.args:
            expected = _output_limit(pending.args[0])
        metadata = pending.metadata
        return Prompt(
            ids,
            getattr(metadata, "session_id", None) or None,
            metadata.multiplexed_model_id or None,
            expected,
            call,
        )


def _plausible(ids: Any) -> bool:
    kind = type(ids)
    if kind is CallTokenIds:
        return True
    if kind is list or kind is tuple:
        return bool(ids) and type(ids[0]) is int and ids[0] >= 0
    if isinstance(ids, array):
        return len(ids) > 0 and ids.typecode not in "uwfd"
    dtype = getattr(ids, "dtype", None)
    return dtype is not None and dtype.kind in "iu" and ids.ndim == 1 and len(ids) > 0


def _output_limit(body: Any) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name) if isinstance(body, Mapping) else getattr(body, name, None)
        if type(value) is int and value > 0:
            return value
    return None

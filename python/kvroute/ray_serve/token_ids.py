"""Where a request's token ids are, seen from the router.

`TokenSource.read` runs on the event loop that routes every request of the process: it looks at a
prompt's ends, whatever its length, and leaves the rest to the core, which checks every id.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kvroute.ray_serve.calls import CallTokenIds, RoutedCall
from kvroute.ray_serve.counters import Counters
from kvroute.ray_serve.options import RouterOptions
from kvroute.ray_serve.prompt_tokenizer import PromptTokenizer, field
from kvroute.ray_serve.user_function import import_function

logger = logging.getLogger("ray.serve")

# Formats of buffers of integers, but for single bytes: those are texts.
_INTEGER_FORMATS = frozenset("hHiIlLqQnN")

# The core's bound; clients ask for more to say "without a limit".
_MOST_OUTPUT_TOKENS = 2**32 - 2


@dataclass(slots=True)
class Prompt:
    """What is known of a request before it is routed.

    `token_ids` are as they were given, never empty: a list or tuple of ints, or a one-dimensional
    buffer of them (array, NumPy). The first and the last were looked at; the core may still refuse
    what lies between.
    """

    token_ids: Any
    session_id: str | None = None
    lora: str | None = None
    expected_output_tokens: int | None = None
    call: RoutedCall | None = None


class TokenSource:
    """Finds the token ids of pending requests as the options say. For one event loop.

    What are no token ids, and what the user's function or the tokenizer raised, leaves the request
    without any; the first is counted, the second logged, once as a warning.
    """

    def __init__(self, options: RouterOptions, counters: Counters | None = None) -> None:
        """Imports the user's function: raises what that raises. The tokenizer is loaded from now
        on, in a thread."""
        self._counters = counters or Counters()
        self._has_failed = False
        self._keyword = options.token_ids_keyword
        path = options.token_ids_argument
        self._path = () if path is None else tuple(path.split("."))
        name = options.token_ids_function
        self._function = None if name is None else import_function(name)
        directory = options.tokenizer
        self._tokenizer = None if directory is None else PromptTokenizer(directory)

    @property
    def computes(self) -> bool:
        """Whether `compute` may find what `read` did not."""
        return self._tokenizer is not None

    def read(self, pending: Any) -> Prompt | None:
        """The ids that came with the request, or None. Takes microseconds, never raises."""
        ids = pending.kwargs.get(self._keyword)
        if ids is not None:
            ids = self._checked(ids)
        if ids is None and self._path:
            ids = self._checked(_at(self._path, pending))
        if ids is None and self._function is not None:
            ids = self._checked(self._called(self._function, pending))
        return None if ids is None else _prompt(pending, ids)

    async def compute(self, pending: Any) -> Prompt | None:
        """The ids of the prompt or chat in the request, or None. Never raises but for its own
        cancellation."""
        if self._tokenizer is None:
            return None
        try:
            ids = await self._tokenizer.token_ids(pending.args, pending.kwargs)
        except Exception:  # a template or a tokenizer may fail in any way
            self._failed("the tokenizer")
            return None
        ids = self._checked(ids)
        return None if ids is None else _prompt(pending, ids)

    def close(self) -> None:
        if self._tokenizer is not None:
            self._tokenizer.close()

    def _called(self, function: Callable[[Any], Any], pending: Any) -> Any:
        try:
            return function(pending)
        except Exception:  # the user's code may fail in any way; the request goes on
            self._failed("token_ids_function")
            return None

    def _failed(self, what: str) -> None:
        level = logging.DEBUG if self._has_failed else logging.WARNING
        self._has_failed = True
        logger.log(level, "%s failed: routed without token ids", what, exc_info=True)

    def _checked(self, given: Any) -> Any:
        """Token ids; None where there are none."""
        if type(given) is CallTokenIds:
            return given
        ids = _first_of_batch(given)
        if ids is None or (isinstance(ids, str) and self.computes):
            return None
        if isinstance(ids, (list, tuple)):
            if not ids:
                return None
            if _is_id(ids[0]) and _is_id(ids[-1]):
                return ids
        elif (length := _buffer_length(ids)) is not None:
            return ids if length else None
        self._counters.malformed_token_ids += 1
        return None


def _at(path: tuple[str, ...], pending: Any) -> Any:
    """What lies at this path of the call's arguments; None where nothing does."""
    value: Any = pending.kwargs
    if path[0].isdecimal():
        value = pending.args
    try:
        for part in path:
            if part.isdecimal() and isinstance(value, (list, tuple)):
                value = value[int(part)]
            else:
                value = field(value, part)
            if value is None:
                return None
    except Exception:  # an index beyond the end, or a property that fails
        return None
    return value


def _first_of_batch(ids: Any) -> Any:
    """A batch of prompts is routed by its first."""
    if isinstance(ids, (list, tuple)):
        return ids[0] if ids and isinstance(ids[0], (list, tuple)) else ids
    return ids[0] if getattr(ids, "ndim", 1) == 2 and len(ids) else ids


def _is_id(value: Any) -> bool:
    """Of an int, or of what NumPy has for one."""
    if type(value) is not int and (type(value) is bool or not hasattr(value, "__index__")):
        return False
    return bool(0 <= value < 1 << 32)


def _buffer_length(ids: Any) -> int | None:
    """None for what is no one-dimensional buffer of integers."""
    try:
        view = memoryview(ids)
    except (TypeError, ValueError, BufferError):
        return None
    return len(view) if view.ndim == 1 and view.format in _INTEGER_FORMATS else None


def as_name(text: str | None) -> str | None:
    """A session or an adapter as the core takes it. None where there is none, and for a text that
    UTF-8 has not (a lone surrogate)."""
    if not text:
        return None
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return None
    return text


def _prompt(pending: Any, ids: Any) -> Prompt:
    call = ids.call if type(ids) is CallTokenIds else None
    expected = None if call is None else _output_tokens(call.expected_output_tokens)
    if expected is None and pending.args:
        expected = _output_limit(pending.args[0])
    metadata = pending.metadata
    return Prompt(
        ids,
        as_name(getattr(metadata, "session_id", None)),
        as_name(metadata.multiplexed_model_id),
        expected,
        call,
    )


def _output_limit(body: Any) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        limit = _output_tokens(field(body, name))
        if limit is not None:
            return limit
    return None


def _output_tokens(stated: Any) -> int | None:
    return min(stated, _MOST_OUTPUT_TOKENS) if type(stated) is int and stated > 0 else None

"""Functions that options name, since Ray's configuration takes no callables."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from kvroute.ray_serve.errors import InvalidOptionsError


def import_function(name: str) -> Callable[[Any], Any]:
    """The function of "package.module:function". Raises InvalidOptionsError."""
    expected = "the importable name of a function that is not async"
    module, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:  # importing runs the user's code
        got = f"{name!r} ({type(error).__name__}: {error})"
        raise InvalidOptionsError("token_ids_function", expected, got) from error
    if not callable(found) or inspect.iscoroutinefunction(found):
        raise InvalidOptionsError("token_ids_function", expected, f"{name!r}")
    return found  # type: ignore[no-any-return]  # callable, as was just seen

"""Settings that are lists: given as lists, or as one text with commas."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic_settings import NoDecode

OptionalList = Annotated[list[str | None], NoDecode]
"""The n-th element is the n-th backend's; None for one that has none."""


def listed(value: Any) -> Any:
    """The list that was meant, its elements as texts, empty ones as None. What is neither a list
    nor a text passes, for the validation to refuse."""
    if value is None:
        return []
    if isinstance(value, (str, int)):
        value = str(value).split(",") if value != "" else []
    if isinstance(value, (list, tuple)):
        return [str(item).strip() or None if item is not None else None for item in value]
    return value

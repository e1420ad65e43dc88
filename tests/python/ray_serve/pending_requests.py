"""Ray's PendingRequest, as far as the router looks at it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def pending(
    *args: Any, session_id: str = "", multiplexed_model_id: str = "", **kwargs: Any
) -> SimpleNamespace:
    """A handle call with these arguments."""
    metadata = SimpleNamespace(session_id=session_id, multiplexed_model_id=multiplexed_model_id)
    return SimpleNamespace(args=list(args), kwargs=kwargs, metadata=metadata)

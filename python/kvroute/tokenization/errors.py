"""What goes wrong between a request and its tokens."""

from __future__ import annotations


class TokenizationError(ValueError):
    """No token ids: the message names the file or field, what was expected and what came."""


class UnsupportedContentError(TokenizationError):
    """A message holds a part (image, audio, video) whose tokens only the engine can know."""

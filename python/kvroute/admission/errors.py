"""Why a request was not admitted."""

from __future__ import annotations


class AdmissionError(Exception):
    """`retry_after`: seconds after which trying again makes sense, at least 1."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QueueFull(AdmissionError):  # noqa: N818 - named as asyncio.QueueFull
    """As many requests wait as may."""


class QueueTimeout(AdmissionError):  # noqa: N818 - beside QueueFull
    """The request's time in the queue was up before a worker had room."""

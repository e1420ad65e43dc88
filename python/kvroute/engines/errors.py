"""Errors of the simulated engines."""

from __future__ import annotations


class EngineError(Exception):
    """Base of the errors that a simulated engine raises."""


class InvalidConfigError(EngineError, ValueError):
    """A setting of an engine is out of range; the message names it."""


class RequestRefusedError(EngineError, ValueError):
    """A request that this engine can never serve; ``param`` names the offending field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class EngineBusyError(EngineError, RuntimeError):
    """The waiting queue is at its bound; the request may be tried again later."""


class EngineStoppedError(EngineError, RuntimeError):
    """The engine stopped before the request ended."""


class ProcessFailedError(EngineError, RuntimeError):
    """A simulated engine's process ended, or did not become ready in time."""

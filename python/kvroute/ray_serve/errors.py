"""What may be wrong with a request, a deployment's options, or the place where a router runs.

All travel between processes (they pickle), and Ray's wrapping keeps their type: what a replica
raises arrives as an instance of Ray's error and of this one.
"""

from __future__ import annotations


class MissingTokenIdsError(ValueError):
    """A request without token ids where `on_missing_tokens` is "error"; the client's mistake: 400.

    Raised by `kvroute.ray_serve.stream` and `call` before the handle is called, and else to whoever
    awaits the handle's answer.
    """

    def __init__(self, message: str = "the request has no token ids to route it by") -> None:
        super().__init__(message)


class RouterUnavailableError(RuntimeError):
    """The deployment cannot be routed to as it is configured: 503.

    The native module or an extra is missing in the process that routes, or the options are bad and
    nobody could refuse them earlier. Every request gets it: requests are never balanced silently.
    """


class InvalidOptionsError(ValueError):
    """Bad `request_router_kwargs`: which option, what was expected and what came."""

    def __init__(self, field: str, expected: str, got: str) -> None:
        super().__init__(field, expected, got)
        self.field = field
        self.expected = expected
        self.got = got

    def __str__(self) -> str:
        return f"{self.field}: expected {self.expected}, got {self.got}"

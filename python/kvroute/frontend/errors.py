"""Errors as the clients of the OpenAI API expect them."""

from __future__ import annotations

import math

import orjson


class ApiError(Exception):
    """An answer other than the engine's. `param` names the field of the request at fault;
    `retry_after`, in seconds, is said in the header of that name, rounded up."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.retry_after = None if retry_after is None else math.ceil(retry_after)

    def body(self) -> bytes:
        """The JSON body: ``{"error": {message, type, param, code}}``."""
        return orjson.dumps(
            {
                "error": {
                    "message": self.message,
                    "type": self.kind,
                    "param": self.param,
                    "code": self.status,
                }
            }
        )


def bad_request(message: str, param: str | None = None) -> ApiError:
    """400: the request itself is wrong."""
    return ApiError(400, message, kind="invalid_request_error", param=param)


def unauthorized() -> ApiError:
    """401: no key, or another than the configured one."""
    return ApiError(
        401,
        "expected the API key in the header Authorization: Bearer KEY",
        kind="authentication_error",
    )


def forbidden(message: str) -> ApiError:
    """403: nobody from there may do it."""
    return ApiError(403, message, kind="permission_error")


def unknown_model(model: str, known: list[str]) -> ApiError:
    """404: nobody serves the model."""
    served = ", ".join(known)
    return not_found(f"the model {model[:200]!r} does not exist; served: {served}", "model")


def not_found(message: str, param: str) -> ApiError:
    """404: there is no such thing."""
    return ApiError(404, message, kind="not_found_error", param=param)


def too_large(what: str, limit: int, status: int) -> ApiError:
    """413 for bodies, 431 for headers: larger than the configured limit in bytes."""
    return ApiError(status, f"{what} larger than {limit} bytes", kind="invalid_request_error")


def too_slow() -> ApiError:
    """408: the body did not come in time."""
    return ApiError(408, "the body did not come in time", kind="request_timeout")


def overloaded(limit: int) -> ApiError:
    """503: as many requests are running as the frontend accepts."""
    return ApiError(
        503, f"{limit} requests are running already; try again", kind="service_unavailable"
    )


def connections_exhausted(message: str) -> ApiError:
    """503: every connection that the frontend may have to engines is in use."""
    return ApiError(503, f"{message}; try again", kind="service_unavailable")


def of_status(status: int, message: str) -> ApiError:
    """What the web framework itself answers: 404, 405 and the like."""
    kinds = {404: "not_found_error", 500: "internal_error"}
    return ApiError(status, message, kind=kinds.get(status, "invalid_request_error"))


def internal_error() -> ApiError:
    """500: a fault of the frontend's own; its log has the rest."""
    return ApiError(500, "internal error", kind="internal_error")


def no_room(message: str, retry_after: float) -> ApiError:
    """503: every engine that may serve the request is over its thresholds."""
    return ApiError(503, message, kind="service_unavailable", retry_after=retry_after)


def come_back(status: int, message: str, retry_after: float | None) -> ApiError:
    """429 or 503: the engines that were tried take no more for now."""
    kind = "rate_limit_error" if status == 429 else "service_unavailable"
    return ApiError(status, message, kind=kind, retry_after=retry_after)


def no_backend(message: str) -> ApiError:
    """503: there is no engine to send the request to."""
    return ApiError(503, message, kind="service_unavailable")


def engine_failed(message: str) -> ApiError:
    """502: the engines that were tried did not answer."""
    return ApiError(502, message, kind="bad_gateway")


def engine_timed_out(message: str) -> ApiError:
    """504: an engine took the request and kept silent for too long."""
    return ApiError(504, message, kind="gateway_timeout")


def gateway_error(reason: str, message: str) -> ApiError:
    """No engine answered; the last one's failure (unreachable, timeout, any other) makes it 503,
    504 or 502."""
    if reason == "timeout":
        return engine_timed_out(message)
    if reason == "unreachable":
        return no_backend(message)
    return engine_failed(message)

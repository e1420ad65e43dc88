"""The router's errors as answers of an application's HTTP ingress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvroute.ray_serve.errors import MissingTokenIdsError, RouterUnavailableError

if TYPE_CHECKING:
    from fastapi import FastAPI

_ANSWERS = {
    MissingTokenIdsError: (400, "invalid_request_error"),
    RouterUnavailableError: (503, "service_unavailable"),
}


def add_error_handlers(app: FastAPI) -> None:
    """Answers MissingTokenIdsError with 400 and RouterUnavailableError with 503, as OpenAI's API
    words errors, also where they come through another deployment, in Ray's own errors.

    Of a stream, errors can be answered until its first bytes are sent: see RoutedStream.opened.
    """
    from starlette.responses import JSONResponse

    def answer(error: type[Exception]) -> Any:
        status, kind = _ANSWERS[error]

        async def handler(_request: Any, raised: Exception) -> JSONResponse:
            body = {"message": str(_cause(raised)), "type": kind, "param": None, "code": status}
            return JSONResponse({"error": body}, status)

        return handler

    for error in _ANSWERS:
        app.add_exception_handler(error, answer(error))


def _cause(raised: BaseException) -> BaseException:
    """Ray wraps what another process raised, through however many it came, in one error that is an
    instance of its type too, and whose text is a traceback."""
    cause = getattr(raised, "cause", None)
    return cause if isinstance(cause, BaseException) else raised

"""The router's errors as an ingress answers them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI
from kvroute.ray_serve import MissingTokenIdsError, RouterUnavailableError, add_error_handlers

exceptions = pytest.importorskip("ray.exceptions")
cloudpickle = pytest.importorskip("ray.cloudpickle")


def wrapped(error: Exception) -> Any:
    """As Ray raises what another process raised."""
    task_error = exceptions.RayTaskError("generate", "Traceback of the replica", error)
    return cloudpickle.loads(cloudpickle.dumps(task_error)).as_instanceof_cause()


async def ask(app: FastAPI) -> tuple[int, Any]:
    """Status and JSON of GET /, straight through the application's own interface."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [],
        "scheme": "http",
        "server": ("ingress", 80),
        "client": ("client", 1),
        "root_path": "",
    }
    await app(scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(part.get("body", b"") for part in sent))


def failing(error: Exception) -> FastAPI:
    app = FastAPI()
    add_error_handlers(app)

    @app.get("/")
    async def fail() -> None:
        raise error

    return app


@pytest.mark.parametrize("of_another_process", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (MissingTokenIdsError("no ids"), 400, "invalid_request_error"),
        (RouterUnavailableError("no router"), 503, "service_unavailable"),
    ],
)
async def test_the_routers_errors_are_answered_as_openai_words_them(
    error: Exception, status: int, kind: str, of_another_process: bool
) -> None:
    answered, body = await ask(failing(wrapped(error) if of_another_process else error))
    assert answered == status
    assert body == {"error": {"message": str(error), "type": kind, "param": None, "code": status}}


@pytest.mark.parametrize("error", [ValueError("other"), RuntimeError("other")])
async def test_other_errors_are_left_to_the_application(error: Exception) -> None:
    app = failing(wrapped(error))

    @app.exception_handler(type(error))
    async def answer(_request: Any, raised: Exception) -> Any:
        from starlette.responses import JSONResponse

        return JSONResponse({"own": type(raised.cause).__name__}, 418)  # type: ignore[attr-defined]

    assert await ask(app) == (418, {"own": type(error).__name__})


async def test_an_error_before_a_streams_first_item_still_has_a_status() -> None:
    from kvroute.ray_serve import stream
    from starlette.responses import StreamingResponse

    class Method:
        def remote(self, **_: Any) -> AsyncIterator[str]:
            return self.items()

        async def items(self) -> AsyncIterator[str]:
            raise wrapped(RouterUnavailableError("no router"))
            yield ""

    app = FastAPI()
    add_error_handlers(app)

    @app.get("/")
    async def generate() -> StreamingResponse:
        return StreamingResponse(await stream(Method(), token_ids=[1]).opened())

    status, body = await ask(app)
    assert (status, body["error"]["message"]) == (503, "no router")

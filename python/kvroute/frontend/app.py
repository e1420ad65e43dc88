"""The ASGI application: hot paths first, FastAPI for the rest, one guard before both."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from kvroute.frontend.errors import (
    ApiError,
    bad_request,
    internal_error,
    of_status,
    too_large,
    unauthorized,
)
from kvroute.frontend.exchange import Exchange, Message, Receive, Scope, Send
from kvroute.frontend.policy_routes import policy_router
from kvroute.frontend.protocols import RouterFactory, core_router
from kvroute.frontend.routes import router
from kvroute.frontend.services import Services
from kvroute.frontend.settings import Settings
from kvroute.frontend.worker_routes import worker_router
from kvroute.tokenization import Tokenizer


class FrontendApp:
    """An ASGI application. Its `services` exist between the lifespan's startup and shutdown."""

    def __init__(self, settings: Settings, make_router: RouterFactory) -> None:
        self.settings = settings
        self.services: Services | None = None
        self._problem: str | None = None
        self._make_router = make_router
        self._tokenizer = (
            Tokenizer.from_directory(settings.tokenizer) if settings.tokenizer is not None else None
        )
        self._key = settings.api_key.encode() if settings.api_key else None
        self.fastapi = FastAPI(
            title="kvroute",
            lifespan=self._lifespan,
            openapi_url=None,
        )
        self.fastapi.include_router(router)
        self.fastapi.include_router(policy_router)
        self.fastapi.include_router(worker_router)
        self.fastapi.add_exception_handler(ApiError, _answer_error)
        self.fastapi.add_exception_handler(HTTPException, _answer_error)
        self.fastapi.add_exception_handler(RequestValidationError, _answer_error)
        self.fastapi.add_exception_handler(Exception, _answer_error)

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        services = Services(self.settings, self._make_router, self._tokenizer)
        app.state.services = services
        try:
            try:
                await services.open()
            except (OSError, ValueError) as error:
                self._problem = str(error)
                raise
            self.services = services
            yield
        finally:
            self.services = None
            await services.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.fastapi(scope, receive, self._told_in_a_line(send))
            return
        path = self._path(scope)
        try:
            self._guard(scope, path)
        except ApiError as error:
            await Exchange(scope, receive, send).send_error(error)
            return
        services = self.services
        post = services.posts.get(path) if services is not None else None
        if services is not None and post is not None and scope["method"] == "POST":
            await services.intake(scope, receive, send, *post)
        else:
            await self.fastapi(scope, receive, send)

    def _told_in_a_line(self, send: Send) -> Send:
        """What keeps the frontend from starting, in place of a traceback."""

        async def tell(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed" and self._problem is not None:
                message = {**message, "message": f"kvroute serve: {self._problem}"}
            await send(message)

        return tell

    def _path(self, scope: Scope) -> str:
        """The path below all root paths: the server's own, then the configured one.

        It is what the routes will see, so that nothing reaches a route that the guard took for
        another path.
        """
        outer: str = scope.get("root_path", "")
        path = _below(outer, scope["path"])
        root = self.settings.root_path
        inner = _below(root, path)
        if inner != path:
            scope["root_path"] = outer + root
        return inner

    def _guard(self, scope: Scope, path: str) -> None:
        """Limits and authentication, the same for every path; the key is asked for under /v1 and
        /debug."""
        size = 0
        authorization = b""
        for name, value in scope["headers"]:
            size += len(name) + len(value) + 4
            if name == b"authorization":
                authorization = value
        if size > self.settings.max_header_bytes:
            raise too_large("the headers are", self.settings.max_header_bytes, 431)
        if self._key is not None and path.startswith(("/v1", "/debug")):
            scheme, _, key = authorization.partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(key.strip(), self._key):
                raise unauthorized()


def create_app(settings: Settings, *, make_router: RouterFactory = core_router) -> FrontendApp:
    """The frontend as an ASGI application, for uvicorn or any other server with a lifespan.

    `make_router(block_size, policy)` makes each model's router; the default is the native core's.
    Raises TokenizationError (a ValueError) for a bad tokenizer directory.
    """
    return FrontendApp(settings, make_router)


def _below(root: str, path: str) -> str:
    """The path without a leading `root`, where that ends at a "/" or is all there is."""
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :]
    return path


async def _answer_error(_: Request, error: Exception) -> Response:
    headers = None
    if isinstance(error, HTTPException):
        headers = error.headers
        answer = of_status(error.status_code, str(error.detail))
    elif isinstance(error, RequestValidationError):
        wrong = error.errors()[0]
        name = ".".join(str(part) for part in wrong["loc"][1:])
        answer = bad_request(f"{name}: {wrong['msg']}, got {str(wrong['input'])[:40]!r}", name)
    else:
        answer = error if isinstance(error, ApiError) else internal_error()
    return Response(answer.body(), answer.status, headers, media_type="application/json")

"""The ASGI application: hot paths first, FastAPI for the rest, one guard before both."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response

from kvroute.frontend.completions import PARSERS
from kvroute.frontend.errors import ApiError, too_large, unauthorized
from kvroute.frontend.exchange import Exchange, Receive, Scope, Send
from kvroute.frontend.protocols import RouterFactory, core_router
from kvroute.frontend.routes import router
from kvroute.frontend.services import Services
from kvroute.frontend.settings import Settings
from kvroute.tokenization import Tokenizer


class FrontendApp:
    """An ASGI application. Its `services` exist between the lifespan's startup and shutdown."""

    def __init__(self, settings: Settings, make_router: RouterFactory) -> None:
        self.settings = settings
        self.services: Services | None = None
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
        self.fastapi.add_exception_handler(ApiError, _answer_api_error)

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        services = Services(self.settings, self._make_router, self._tokenizer)
        app.state.services = self.services = services
        try:
            yield
        finally:
            self.services = None
            await services.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.fastapi(scope, receive, send)
            return
        path: str = scope["path"]
        if self.settings.root_path and path.startswith(self.settings.root_path):
            path = path[len(self.settings.root_path) :]
            scope["root_path"] = self.settings.root_path
        try:
            self._guard(scope, path)
        except ApiError as error:
            await Exchange(scope, receive, send).send_error(error)
            return
        if path in PARSERS and scope["method"] == "POST" and self.services is not None:
            await self.services.completions(path, scope, receive, send)
        else:
            await self.fastapi(scope, receive, send)

    def _guard(self, scope: Scope, path: str) -> None:
        """Limits and authentication, the same for every path; the key is asked for under /v1."""
        size = 0
        authorization = b""
        for name, value in scope["headers"]:
            size += len(name) + len(value) + 4
            if name == b"authorization":
                authorization = value
        if size > self.settings.max_header_bytes:
            raise too_large("the headers are", self.settings.max_header_bytes, 431)
        if self._key is not None and path.startswith("/v1"):
            scheme, _, key = authorization.partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(key.strip(), self._key):
                raise unauthorized()


def create_app(settings: Settings, *, make_router: RouterFactory = core_router) -> FrontendApp:
    """The frontend as an ASGI application, for uvicorn or any other server with a lifespan.

    `make_router(block_size, policy)` makes each model's router; the default is the native core's.
    Raises TokenizationError (a ValueError) for a bad tokenizer directory.
    """
    return FrontendApp(settings, make_router)


async def _answer_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return Response(error.body(), error.status, media_type="application/json")

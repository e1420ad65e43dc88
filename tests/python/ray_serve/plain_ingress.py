"""An ingress that knows nothing of kvroute: only its handle's router is."""

from __future__ import annotations

from typing import Any

from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response


class PlainIngress:
    """Answers what the model says, or 503 with the error that its handle raises."""

    def __init__(self, model: DeploymentHandle) -> None:
        self._model = model

    async def __call__(self, request: Request) -> Response:
        body: dict[str, Any] = await request.json()
        try:
            answer = await self._model.hold.remote(0, request_token_ids=body["ids"])
        except Exception as error:
            return PlainTextResponse(f"{type(error).__name__}: {error}", 503)
        return PlainTextResponse(answer["replica"])

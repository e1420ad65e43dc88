"""The FastAPI routes: what is asked now and then, not with every token."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from kvroute.deadline import within
from kvroute.frontend.backend import Backend
from kvroute.frontend.errors import too_large
from kvroute.frontend.fleet import Fleet
from kvroute.frontend.model_group import ModelGroup
from kvroute.frontend.services import Services
from kvroute.frontend.upstream import Upstream, UpstreamError, get

router = APIRouter()
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MODELS_TIMEOUT = 2.0
_MAX_MODELS_BYTES = 1 << 20
_MAX_BODY_BYTES = 1 << 16


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]


ModelQuery = Annotated[str | None, Query()]


def json_response(content: Any, status: int = 200) -> Response:
    """Any content as JSON."""
    return Response(orjson.dumps(content), status, media_type="application/json")


def groups_of(fleet: Fleet, model: str | None) -> list[ModelGroup]:
    """One model's group, or every model's. Raises ApiError 404."""
    return list(fleet.groups.values()) if model is None else [fleet.group(model)]


async def read_small_body(request: Request) -> bytes:
    """The body of a request that tells what to change. Raises ApiError 413."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise too_large("the body is", _MAX_BODY_BYTES, 413)
    return bytes(body)


@router.get("/v1/models")
async def models(services: ServicesDep) -> Response:
    """The models that are served here, each with the card of the first engine that has one."""
    cards = await asyncio.gather(
        *(_card_of(services.upstream, group) for group in services.fleet.groups.values())
    )
    return json_response({"object": "list", "data": cards})


@router.get("/health")
async def health(services: ServicesDep) -> Response:
    """200 while every model has the engines that a request takes, else 503."""
    groups = services.fleet.groups
    workers = {name: group.states() for name, group in groups.items()}
    healthy = all(group.takes_requests() for group in groups.values())
    return json_response(
        {"status": "healthy" if healthy else "unhealthy", "workers": workers},
        200 if healthy else 503,
    )


@router.get("/metrics")
async def metrics(services: ServicesDep) -> Response:
    """Prometheus' text format."""
    return Response(services.fleet.metrics.text(), media_type=_METRICS_TYPE)


@router.get("/version")
async def version() -> Response:
    """kvroute's version."""
    from kvroute import __version__

    return json_response({"version": __version__})


async def _card_of(upstream: Upstream, group: ModelGroup) -> dict[str, Any]:
    listed = await asyncio.gather(
        *(_models_of(upstream, backend) for backend in group.backends.values())
    )
    found = (card for cards in listed for card in cards if card["id"] == group.name)
    return next(found, None) or _card(group.name)


async def _models_of(upstream: Upstream, backend: Backend) -> list[dict[str, Any]]:
    """The cards that an engine lists; warns once of an engine that has not what it should."""
    try:
        body = await within(
            _MODELS_TIMEOUT, get(upstream, f"{backend.url}/v1/models", _MAX_MODELS_BYTES)
        )
        cards = [card for card in orjson.loads(body)["data"] if isinstance(card["id"], str)]
    except (UpstreamError, asyncio.TimeoutError, ValueError, KeyError, TypeError):
        return []
    if cards and all(card["id"] != backend.model for card in cards):
        backend.misses_model([card["id"] for card in cards])
    return cards


def _card(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": int(time.time()), "owned_by": "kvroute"}

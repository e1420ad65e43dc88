"""The FastAPI routes: what is asked now and then, not with every token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request, Response

from kvroute.frontend.errors import bad_request
from kvroute.frontend.fleet import Backend
from kvroute.frontend.prompts import parse_either
from kvroute.frontend.services import Services
from kvroute.frontend.upstream import Upstream, UpstreamError

router = APIRouter()
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MODELS_TIMEOUT = 2.0
_MAX_MODELS_BYTES = 1 << 20


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


@router.get("/v1/models")
async def models(services: ServicesDep) -> Response:
    """Every engine's models, each once; an engine that does not answer counts with its own."""
    asked = await asyncio.gather(
        *(
            _models_of(services.upstream, backend)
            for group in services.fleet.groups.values()
            for backend in group.backends.values()
        )
    )
    merged: dict[str, dict[str, Any]] = {}
    for cards in asked:
        for card in cards:
            merged.setdefault(card["id"], card)
    for name in services.fleet.groups:
        merged.setdefault(name, _card(name))
    return _json({"object": "list", "data": list(merged.values())})


@router.get("/health")
async def health(services: ServicesDep) -> Response:
    """200 while every model has an engine that takes requests, else 503."""
    workers = {
        name: {backend.url: backend.healthy for backend in group.backends.values()}
        for name, group in services.fleet.groups.items()
    }
    healthy = all(any(states.values()) for states in workers.values())
    return _json(
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

    return _json({"version": __version__})


@router.post("/v1/kvroute/explain")
async def explain(request: Request, services: ServicesDep) -> Response:
    """Where a completion or chat with this body would go, and why. Changes nothing."""
    body = await request.body()
    parsed = parse_either(body)
    group = services.fleet.group(parsed.model)
    prompts = await services.tokens.token_ids(
        group, parsed, headers=[(n, v) for n, v in request.headers.raw if n == b"authorization"]
    )
    if not prompts[0]:
        raise bad_request("the prompt's tokens could not be had", "prompt")
    explanation = group.router.explain(prompts[0], salt=parsed.salt)
    return _json(
        {
            "model": group.name,
            "policy": explanation.policy,
            "num_tokens": explanation.num_tokens,
            "text": str(explanation),
            "targets": [
                {
                    "worker": target.worker,
                    "dp_rank": target.dp_rank,
                    "eligible": target.eligible,
                    "reason": target.reason,
                    "cost": target.cost,
                    "cached_tokens": target.cached_tokens,
                    "terms": dict(target.terms),
                }
                for target in explanation.targets
            ],
        }
    )


async def _models_of(upstream: Upstream, backend: Backend) -> Iterable[dict[str, Any]]:
    try:
        body = await asyncio.wait_for(_get(upstream, f"{backend.url}/v1/models"), _MODELS_TIMEOUT)
        cards = orjson.loads(body)["data"]
        return [card for card in cards if isinstance(card["id"], str)]
    except (UpstreamError, asyncio.TimeoutError, ValueError, KeyError, TypeError):
        return []


async def _get(upstream: Upstream, url: str) -> bytes:
    response = await upstream.request("GET", url, [], None)
    try:
        body = bytearray()
        while chunk := await response.read_chunk():
            body += chunk
            if len(body) > _MAX_MODELS_BYTES:
                raise ValueError("an answer too large")
        if response.status != 200:
            raise ValueError(f"status {response.status}")
        return bytes(body)
    finally:
        response.close()


def _card(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": int(time.time()), "owned_by": "kvroute"}

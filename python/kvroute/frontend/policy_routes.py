"""The routes that show how it is decided, and change it while requests run."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response

from kvroute.frontend.errors import bad_request, forbidden, too_large
from kvroute.frontend.explanations import explained
from kvroute.frontend.fleet import Fleet, ModelGroup
from kvroute.frontend.policy_choice import PolicySpec, as_json, needs_tokens
from kvroute.frontend.routes import ServicesDep

logger = logging.getLogger("kvroute.frontend")
policy_router = APIRouter()
_MAX_POLICY_BYTES = 1 << 16

ModelQuery = Annotated[str | None, Query()]


@policy_router.get("/v1/kvroute/policy")
async def policies(services: ServicesDep, model: ModelQuery = None) -> Response:
    """The policy of each model, or of one."""
    return _policies(_groups(services.fleet, model))


@policy_router.put("/v1/kvroute/policy")
async def change_policy(
    request: Request, services: ServicesDep, model: ModelQuery = None
) -> Response:
    """Changes the policy of each model, or of one, between two requests. The body is the policy as
    JSON: a name, or an object with "name" and parameters; "inf" is infinity. Nothing of index or
    load is lost; the change lasts until the process ends. Without a configured key only clients of
    this machine may.
    """
    if not services.settings.api_key and not _is_local(request):
        raise forbidden(
            "without --api-key the policy is changed from this machine alone; start kvroute serve "
            "with a key to change it from elsewhere"
        )
    policy = _parse_policy(await _body(request))
    groups = _groups(services.fleet, model)
    try:
        needs_tokens(policy)
    except ValueError as error:
        raise bad_request(str(error), "policy") from error
    for group in groups:
        logger.warning("model %s: the policy is now %s", group.name, json.dumps(policy))
        group.set_policy(policy)
    return _policies(groups)


@policy_router.get("/debug/decisions")
async def decisions(
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 20,
    model: ModelQuery = None,
) -> Response:
    """The last decisions of each model, or of one, that `decision_log` kept, the oldest first: who
    was chosen, and every target's every term then."""
    groups = _groups(services.fleet, model)
    now = time.monotonic()
    found = {
        # Terms are computed now, for each target of each decision: not on the event loop.
        group.name: await asyncio.to_thread(_decisions, group, limit, now)
        for group in groups
    }
    return Response(orjson.dumps({"models": found}), media_type="application/json")


def _decisions(group: ModelGroup, limit: int, now: float) -> list[dict[str, Any]]:
    return [
        {
            "age_seconds": now - decision.time,
            "request_id": decision.request_id,
            "worker": decision.worker,
            "dp_rank": decision.dp_rank,
            **explained(decision.explanation),
        }
        for decision in group.router.recent_decisions(limit)
    ]


def _is_local(request: Request) -> bool:
    """Whether the client's address is a loopback one. Not known (a Unix socket): no."""
    try:
        address = ip_address(request.client.host if request.client is not None else "")
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _groups(fleet: Fleet, model: str | None) -> list[ModelGroup]:
    return list(fleet.groups.values()) if model is None else [fleet.group(model)]


def _policies(groups: Iterable[ModelGroup]) -> Response:
    body = orjson.dumps({"models": {group.name: as_json(group.policy) for group in groups}})
    return Response(body, media_type="application/json")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_POLICY_BYTES:
            raise too_large("the body is", _MAX_POLICY_BYTES, 413)
    return bytes(body)


def _parse_policy(body: bytes) -> PolicySpec:
    try:
        policy: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the body is not valid JSON: {error}", "policy") from error
    if not isinstance(policy, (str, dict)):
        raise bad_request("policy: expected a name, or an object with a name", "policy")
    return policy

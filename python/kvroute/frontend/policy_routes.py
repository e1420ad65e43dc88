"""The routes that show how it is decided, and change it while requests run."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request, Response

from kvroute.frontend.errors import bad_request
from kvroute.frontend.explanations import explained
from kvroute.frontend.model_group import ModelGroup
from kvroute.frontend.permission import require_permission
from kvroute.frontend.policy_choice import PolicySpec, as_json, needs_tokens
from kvroute.frontend.routes import (
    ModelQuery,
    ServicesDep,
    groups_of,
    json_response,
    read_small_body,
)

logger = logging.getLogger("kvroute.frontend")
policy_router = APIRouter()


@policy_router.get("/v1/kvroute/policy")
async def policies(services: ServicesDep, model: ModelQuery = None) -> Response:
    """The policy of each model, or of one."""
    return _policies(groups_of(services.fleet, model))


@policy_router.put("/v1/kvroute/policy")
async def change_policy(
    request: Request,
    services: ServicesDep,
    model: ModelQuery = None,
    phase: Annotated[Literal["prefill", "decode"] | None, Query()] = None,
) -> Response:
    """Changes the policy of each model, or of one, between two requests. The body is the policy as
    JSON: a name, or an object with "name" and parameters; "inf" is infinity. Nothing of index or
    load is lost; the change lasts until the process ends. Without a configured key only clients of
    this machine may. With a `phase` it is the policy of these legs alone.
    """
    require_permission(request, services.settings.api_key)
    if phase is not None and not services.settings.is_disaggregated:
        raise bad_request("phase: expected none where workers have no roles", "phase")
    if phase is not None and services.settings.chooses_pairs:
        raise bad_request(
            "phase: expected none where pair_choice is joint: no phase has a policy then", "phase"
        )
    policy = _parse_policy(await read_small_body(request))
    groups = groups_of(services.fleet, model)
    try:
        needs_tokens(policy)
    except ValueError as error:
        raise bad_request(str(error), "policy") from error
    for group in groups:
        of = "" if phase is None else f" of the phase {phase}"
        logger.warning("model %s: the policy%s is now %s", group.name, of, json.dumps(policy))
        group.set_policy(policy, phase)
    return _policies(groups)


@policy_router.get("/debug/decisions")
async def decisions(
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 20,
    model: ModelQuery = None,
) -> Response:
    """The last decisions of each model, or of one, that `decision_log` kept, the oldest first: who
    was chosen, and every target's every term then."""
    groups = groups_of(services.fleet, model)
    now = time.monotonic()
    found = {
        # Terms are computed now, for each target of each decision: not on the event loop.
        group.name: await asyncio.to_thread(_decisions, group, limit, now)
        for group in groups
    }
    return json_response({"models": found})


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


def _policies(groups: Iterable[ModelGroup]) -> Response:
    groups = list(groups)
    content = {"models": {group.name: as_json(group.policy) for group in groups}}
    phases = {group.name: as_json(group.phase_policies) for group in groups if group.phase_policies}
    return json_response({**content, "phases": phases} if phases else content)


def _parse_policy(body: bytes) -> PolicySpec:
    try:
        policy: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the body is not valid JSON: {error}", "policy") from error
    if not isinstance(policy, (str, dict)):
        raise bad_request("policy: expected a name, or an object with a name", "policy")
    return policy

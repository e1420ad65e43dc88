"""The routes that show the workers, and change their roles while requests run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from kvroute.frontend.disagg_settings import DISAGGREGATED_LOGICS, ROLES, Role
from kvroute.frontend.errors import ApiError, bad_request, not_found
from kvroute.frontend.model_group import ModelGroup
from kvroute.frontend.permission import require_permission
from kvroute.frontend.routes import (
    ModelQuery,
    ServicesDep,
    groups_of,
    json_response,
    read_small_body,
)
from kvroute.frontend.settings import Settings

worker_router = APIRouter()


@worker_router.get("/v1/kvroute/workers")
async def workers(services: ServicesDep, model: ModelQuery = None) -> Response:
    """The workers of each model, or of one: role, health, and what runs there."""
    return _workers(groups_of(services.fleet, model))


@worker_router.put("/v1/kvroute/workers")
async def change_worker(request: Request, services: ServicesDep) -> Response:
    """Changes a worker's role between two requests. The body is an object with "worker" (its URL)
    and "role" (prefill, decode, both, whole) or "label" (one of the configured labels). What runs
    there goes on; index and load stay. The change lasts until the process ends. Without a
    configured key only clients of this machine may.
    """
    settings = services.settings
    require_permission(request, settings.api_key)
    if not settings.is_disaggregated:
        raise bad_request(
            "role: workers have roles with the routing logic "
            f"{' or '.join(DISAGGREGATED_LOGICS)} only",
            "role",
        )
    url, role = _parse_change(await read_small_body(request), settings)
    try:
        group = services.fleet.group_of(url)
        services.roles.change(url, role)
    except KeyError:
        raise _unknown_worker(url) from None
    except ValueError as error:
        raise bad_request(f"role: {error}", "role") from error
    return _workers([group])


def _workers(groups: Iterable[ModelGroup]) -> Response:
    return json_response({"models": {group.name: group.described() for group in groups}})


def _parse_change(body: bytes, settings: Settings) -> tuple[str, Role]:
    try:
        fields: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the body is not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise bad_request("expected an object with worker, and role or label")
    for name in fields:
        if name not in ("worker", "role", "label"):
            raise bad_request(f"{name[:40]}: expected worker, role or label only", name)
    url = fields.get("worker")
    if not isinstance(url, str):
        raise bad_request(f"worker: expected a worker's URL, got {url!r:.80}", "worker")
    return url.rstrip("/"), _role_of(fields, settings)


def _role_of(fields: dict[str, Any], settings: Settings) -> Role:
    if ("role" in fields) == ("label" in fields):
        raise bad_request("role: expected it or label, one of both", "role")
    if "label" in fields:
        label = fields["label"]
        known = list(settings.known_labels)
        if label is None or label not in known:
            shown = ", ".join(sorted({name or "" for name in known})) or "none configured"
            raise bad_request(f"label: expected one of {shown}, got {label!r:.80}", "label")
        return settings.role(label)
    for role in ROLES:
        if fields["role"] == role:
            return role
    raise bad_request(
        f"role: expected one of {', '.join(ROLES)}, got {fields['role']!r:.80}", "role"
    )


def _unknown_worker(url: str) -> ApiError:
    return not_found(f"worker: no worker has the URL {url[:200]!r}", "worker")

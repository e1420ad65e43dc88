"""Fleets whose workers have roles, all able to do both legs, behind a frontend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
from disagg_harness import BLOCK, FAST, PROMPT, running
from frontend_harness import Frontend, running_frontend
from kvroute.engines import CostModel, SimulatedEngine
from kvroute.frontend.protocols import core_router

WORKERS = "/v1/kvroute/workers"
LABELS: dict[str, Any] = {"prefill_model_labels": "p,b", "decode_model_labels": "d,b"}
LOGIC = "disaggregated_prefill_orchestrated"


@asynccontextmanager
async def fleet_of(
    labels: str, connector: str = "nixl", cost: CostModel = FAST, **settings: Any
) -> AsyncIterator[tuple[Frontend, Sequence[SimulatedEngine]]]:
    """An engine for each label, all able to do both, behind a frontend that makes two legs."""
    engines = [
        SimulatedEngine(model="m", block_size=BLOCK, cost=cost, kv_connector=connector)
        for _ in labels.split(",")
    ]
    async with (
        running(*engines),
        running_frontend(
            *(engine.http_url for engine in engines),
            make_router=core_router,
            block_size=BLOCK,
            routing_logic=LOGIC,
            static_model_labels=labels,
            disagg_connector_type=connector,
            whole_model_labels="w",
            **LABELS,
            **settings,
        ) as frontend,
    ):
        yield frontend, engines


async def change(frontend: Frontend, **body: Any) -> tuple[int, Any]:
    url = frontend.url + WORKERS
    async with frontend.client.put(url, data=orjson.dumps(body)) as response:
        return response.status, await response.json()


async def legs(frontend: Frontend, **body: Any) -> tuple[str | None, str]:
    """The workers of a request's two legs; None for the first where it went whole."""
    async with frontend.completion({"prompt": PROMPT, "max_tokens": 3, **body}) as response:
        assert response.status == 200, await response.text()
        headers = response.headers
        return headers.get("x-kvroute-prefill-worker"), headers["x-kvroute-worker"]

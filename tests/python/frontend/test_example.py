"""The example application, served by uvicorn before an engine."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from frontend_harness import FakeEngine, answer, replies, running_app

MAIN = Path(__file__).parents[3] / "examples" / "fastapi_frontend" / "main.py"


def load_example() -> Any:
    spec = importlib.util.spec_from_file_location("fastapi_frontend_main", MAIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_the_example_routes_and_has_its_own_route(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeEngine(replies(answer({"id": "x"}))) as engine:
        monkeypatch.setenv("KVROUTE_STATIC_BACKENDS", engine.url)
        monkeypatch.setenv("KVROUTE_STATIC_MODELS", "m")
        app = load_example().app
        async with running_app(app) as url, aiohttp.ClientSession() as client:
            body = {"model": "m", "prompt": [1, 2, 3]}
            async with client.post(url + "/v1/completions", json=body) as got:
                assert got.headers["x-kvroute-worker"] == engine.url
                assert await got.json() == {"id": "x"}
            async with client.get(url + "/workers") as got:
                assert await got.json() == {"m": {engine.url: 0}}

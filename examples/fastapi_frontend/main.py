"""kvroute's frontend as an application of one's own, with a route added.

    KVROUTE_STATIC_BACKENDS=http://127.0.0.1:8100,http://127.0.0.1:8101 KVROUTE_STATIC_MODELS=m \
        uvicorn main:app --app-dir examples/fastapi_frontend --port 8001

Everything that `kvroute serve` can be told is read from the environment (KVROUTE_…), and from the
file named by FRONTEND_CONFIG where there is one. Needs ``pip install 'kvroute[serve]'``.
"""

from __future__ import annotations

import os
from pathlib import Path

from fastapi import Request
from kvroute.frontend import create_app
from kvroute.frontend.settings import load_settings

config = os.environ.get("FRONTEND_CONFIG")
app = create_app(load_settings({}, Path(config) if config else None))


@app.fastapi.get("/workers")
async def workers(request: Request) -> dict[str, dict[str, int]]:
    """Requests that run on each worker, by model."""
    running: dict[str, dict[str, int]] = {}
    for model, stats in request.app.state.services.fleet.stats():
        counts = running.setdefault(model, {})
        for target in stats.targets:
            counts[target.worker] = counts.get(target.worker, 0) + target.active_requests
    return running

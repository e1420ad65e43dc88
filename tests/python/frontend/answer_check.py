"""What a client sees of an answer in two legs, beside one engine's."""

from __future__ import annotations

from typing import Any

import orjson
from client_view import view_stream, view_whole
from disagg_harness import Deployment


async def view(fleet: Deployment, url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """What a client makes of the answer, without what only one engine's own cache tells."""
    content = orjson.dumps({"model": "m", **body})
    async with fleet.frontend.client.post(url + path, data=content) as response:
        answer = await response.read()
        assert response.status == 200, answer
        assert ("x-kvroute-prefill-worker" in response.headers) == (url == fleet.frontend.url)
    seen = view_stream(answer) if body.get("stream") else view_whole(answer)
    counts = seen.pop("counts", [])
    assert counts == sorted(counts)  # how many there are depends on the borders of chunks
    if seen["usage"] is not None:
        seen["usage"].pop("prompt_tokens_details")
    return seen


async def check(fleet: Deployment, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Asks both ways; what the one engine's client sees."""
    wanted = await view(fleet, fleet.single.http_url, path, body)
    assert await view(fleet, fleet.frontend.url, path, body) == wanted
    await fleet.settled()
    return wanted

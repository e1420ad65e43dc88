"""The application around a router of one's own. Imported by name in Ray's processes too."""

from __future__ import annotations

import asyncio
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle


class Who:
    """Says which replica answers, after a while."""

    async def generate(
        self,
        seconds: float,
        request_token_ids: Any = None,  # noqa: ARG002  # the router reads it
    ) -> str:
        await asyncio.sleep(seconds)
        return str(serve.get_replica_context().replica_id.unique_id)


class Caller:
    """Calls the handle in another process than the test's, where the router cannot be imported."""

    def __init__(self, model: DeploymentHandle) -> None:
        self._model = model

    async def ask(self, token_ids: list[int] | None, seconds: float = 0.0) -> str:
        keywords = {} if token_ids is None else {"request_token_ids": token_ids}
        answer = await self._model.generate.remote(seconds, **keywords)
        return str(answer)

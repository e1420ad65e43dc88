"""The frontend's side of POST /find_best_worker."""

from __future__ import annotations

import asyncio
from array import array

import aiohttp
import orjson
from pydantic import ValidationError
from router import RouterResponse
from worker import describe

TIMEOUT_SECONDS = 1.0


class RouterUnavailableError(RuntimeError):
    """The router gave no worker; the message says which router, and why."""


class RouterClient:
    """Asks the router at `url`, within TIMEOUT_SECONDS. `url` may change at any time."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        self._session = aiohttp.ClientSession(
            timeout=timeout, connector=aiohttp.TCPConnector(limit=0)
        )

    async def find_best_worker(self, local_hashes: array[int], num_tokens: int) -> int:
        """The worker's number. Raises RouterUnavailableError."""
        assert self._session is not None, "open() first"
        question = orjson.dumps({"local_hashes": local_hashes.tolist(), "num_tokens": num_tokens})
        try:
            async with self._session.post(
                f"{self.url}/find_best_worker",
                data=question,
                headers={"content-type": "application/json"},
            ) as response:
                status, reply = response.status, await response.read()
        except asyncio.TimeoutError as error:
            raise RouterUnavailableError(
                f"router at {self.url} did not answer within {TIMEOUT_SECONDS:g} s"
            ) from error
        except aiohttp.ClientError as error:
            raise RouterUnavailableError(
                f"router at {self.url} does not answer: {describe(error)}"
            ) from error
        if status != 200:
            raise RouterUnavailableError(
                f"router at {self.url} answered {status}: {reply.decode(errors='replace')}"
            )
        try:
            return RouterResponse.model_validate_json(reply).worker_id
        except ValidationError as error:
            raise RouterUnavailableError(f"router at {self.url} sent no worker_id") from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

"""Which engine runs at each data-parallel rank of a prefill worker, as its bootstrap server says.

Source: vLLM's MooncakeConnector and llm-d-router, pkg/sidecar/proxy/connector_mooncake.go: GET
``/query`` gives ``{"0": {"engine_id": "…"}, …}``, keyed by rank.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

import orjson

from kvroute.disagg.connector import Fetch, HandoffError

_MAX_SERVERS = 4096


class EngineIds:
    """Asks once a server and remembers for a while. One event loop's.

    Bounded to 4096 servers; the one asked longest ago goes first. Requests that ask for a server at
    the same time ask it once.

    Args:
        fetch: GETs a URL.
        timeout: seconds for an answer.
        lifetime: seconds that an answer is believed.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        fetch: Fetch,
        timeout: float,
        lifetime: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._timeout = timeout
        self._lifetime = lifetime
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, dict[int, str]]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[dict[int, str]]] = {}

    async def of(self, address: str) -> dict[int, str]:
        """Engine ids by rank of the server at `address` (a base URL). Raises HandoffError."""
        known = self._known.get(address)
        if known is not None and self._clock() - known[0] < self._lifetime:
            return known[1]
        task = self._asking.get(address)
        if task is None:
            task = asyncio.create_task(self._ask(address))
            self._asking[address] = task
            task.add_done_callback(lambda done: self._asked(address, done))
        return await asyncio.shield(task)  # one asker that leaves does not stop the others

    def forget(self, address: str) -> None:
        """Has the next request ask again. Idempotent."""
        self._known.pop(address, None)

    async def close(self) -> None:
        """Ends what is being asked; whoever waits gets HandoffError."""
        for task in list(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    def _asked(self, address: str, task: asyncio.Task[dict[int, str]]) -> None:
        self._asking.pop(address, None)
        if not task.cancelled() and task.exception() is None:
            self._known[address] = (self._clock(), task.result())
            self._known.move_to_end(address)
            if len(self._known) > _MAX_SERVERS:
                self._known.popitem(last=False)

    async def _ask(self, address: str) -> dict[int, str]:
        url = f"{address}/query"
        try:
            body = await asyncio.wait_for(self._fetch(url), self._timeout)
        except asyncio.TimeoutError:
            raise HandoffError(
                f"mooncake: {url} did not answer within {self._timeout:g} s", timed_out=True
            ) from None
        except asyncio.CancelledError:
            raise HandoffError(f"mooncake: closed while asking {url}") from None
        except OSError as error:
            raise HandoffError(f"mooncake: cannot GET {url} ({error})") from error
        return _engine_ids(url, body)


def _engine_ids(url: str, body: bytes) -> dict[int, str]:
    try:
        ranks = orjson.loads(body)
    except orjson.JSONDecodeError:
        ranks = None
    if not isinstance(ranks, dict):
        raise HandoffError(f"mooncake: expected a JSON object keyed by rank from {url}")
    found = {
        int(rank): entry["engine_id"]
        for rank, entry in ranks.items()
        if rank.isdecimal() and isinstance(entry, dict) and isinstance(entry.get("engine_id"), str)
    }
    if not found:
        raise HandoffError(f"mooncake: expected engine_id of at least one rank from {url}")
    return dict(sorted(found.items()))

"""The router of the standalone example: which worker shall serve a request?

It knows no prompts and no engines' addresses but those of their event streams: it is asked with
the hashes of a prompt's blocks and answers with a worker's number.

    python router.py --num-workers 2 --port 7000
    curl -s http://127.0.0.1:7000/find_best_worker -H 'content-type: application/json' \
         -d '{"local_hashes": [], "num_tokens": 12}'
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated

import kvroute
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field
from serving import BodyLimit, add_port_flags, serve

MAX_BODY_BYTES = 8 * 2**20

Hash = Annotated[int, Field(ge=0, lt=2**64)]


class RouterRequest(BaseModel):
    """A prompt as the router sees it.

    `local_hashes` are kvroute.hash_blocks(token_ids, block_size), one for each full block;
    `num_tokens` is the prompt's length, a trailing partial block included.
    """

    local_hashes: list[Hash]
    num_tokens: Annotated[int, Field(gt=0, lt=2**32)]


class RouterResponse(BaseModel):
    worker_id: int


@dataclass(frozen=True)
class WorkerState:
    """What the router knows of one worker; waiting and kv_usage are None before a report."""

    worker_id: int
    connected: bool
    held_blocks: int
    waiting: int | None
    kv_usage: float | None
    selections: int


class KvRouter:
    """kvroute's router under the standalone policy, for workers 0 to num_workers - 1.

    Worker i publishes KV events on base_kv_events_port + i, replays them on
    base_kv_replay_port + i and publishes its load on base_metrics_port + i, all on `host`.
    """

    def __init__(
        self,
        block_size: int = 64,
        num_workers: int = 2,
        base_kv_events_port: int = 5557,
        base_metrics_port: int = 5657,
        base_kv_replay_port: int = 5757,
        host: str = "127.0.0.1",
    ) -> None:
        self.router = kvroute.KvRouter(block_size=block_size, policy="standalone")
        for worker_id in range(num_workers):
            self.router.add_worker(
                worker_id,
                kv_events=f"tcp://{host}:{base_kv_events_port + worker_id}",
                kv_replay=f"tcp://{host}:{base_kv_replay_port + worker_id}",
                load_events=f"tcp://{host}:{base_metrics_port + worker_id}",
            )

    async def get_best_worker(self, local_hashes: Sequence[int], num_tokens: int) -> int:
        """The worker with the highest logit

            2 * overlap * block_size / num_tokens - kv_usage - waiting / max_waiting

        Ties fall at random. Takes microseconds, so it may run on an event loop. Raises
        kvroute.InvalidArgument when the prompt is shorter than its blocks, and
        kvroute.NoEligibleWorker without workers.
        """
        choice = self.router.select_worker_by_hashes(local_hashes, num_tokens)
        return int(choice.worker)

    def workers(self) -> list[WorkerState]:
        return [
            WorkerState(
                worker_id=int(target.worker),
                connected=bool(target.events["connected"]),
                held_blocks=target.held_blocks,
                waiting=target.waiting,
                kv_usage=target.kv_usage,
                selections=target.selections,
            )
            for target in self.router.stats().targets
        ]

    def close(self) -> None:
        self.router.close()


class RouterAPI:
    """KvRouter over HTTP: POST /find_best_worker, GET /workers, GET /health."""

    def __init__(
        self,
        block_size: int = 64,
        num_workers: int = 2,
        base_kv_events_port: int = 5557,
        base_metrics_port: int = 5657,
        base_kv_replay_port: int = 5757,
        port: int = 7000,
        host: str = "127.0.0.1",
    ) -> None:
        self.host = host
        self.port = port
        self.router = KvRouter(
            block_size=block_size,
            num_workers=num_workers,
            base_kv_events_port=base_kv_events_port,
            base_metrics_port=base_metrics_port,
            base_kv_replay_port=base_kv_replay_port,
            host=host,
        )
        self.app = FastAPI(title="kvroute standalone router", lifespan=self._lifespan)
        self.app.add_middleware(BodyLimit, max_bytes=MAX_BODY_BYTES)
        self.app.post("/find_best_worker")(self.find_best_worker)
        self.app.get("/workers")(self.workers)
        self.app.get("/health")(self.health)

    async def find_best_worker(self, request: RouterRequest) -> RouterResponse:
        try:
            worker_id = await self.router.get_best_worker(request.local_hashes, request.num_tokens)
        except kvroute.InvalidArgument as error:
            raise HTTPException(422, str(error)) from error
        except kvroute.NoEligibleWorker as error:
            raise HTTPException(503, str(error)) from error
        return RouterResponse(worker_id=worker_id)

    async def workers(self) -> list[WorkerState]:
        return self.router.workers()

    async def health(self) -> dict[str, str]:
        return {"status": "ok"}

    async def start(self) -> bool:
        """Serves until a signal; False if the port could not be had."""
        return await serve(self.app, self.host, self.port, {})

    @asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        yield
        self.router.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="kvroute's standalone router")
    add_port_flags(parser)
    parser.add_argument("--port", type=int, default=7000, help="HTTP port; 0 takes a free one")
    args = parser.parse_args()
    api = RouterAPI(
        block_size=args.block_size,
        num_workers=args.num_workers,
        base_kv_events_port=args.base_kv_events_port,
        base_metrics_port=args.base_metrics_port,
        base_kv_replay_port=args.base_kv_replay_port,
        port=args.port,
        host=args.host,
    )
    with suppress(KeyboardInterrupt):
        sys.exit(0 if asyncio.run(api.start()) else 1)


if __name__ == "__main__":
    main()

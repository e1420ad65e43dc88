"""Selection as an actor, on a real cluster."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import kvroute
import numpy as np
import pytest
import ray
from cluster_harness import eventually, prompt
from kvroute.engines import EmbeddedEngine
from kvroute.ray_serve import get_selection_actor

if TYPE_CHECKING:
    from cluster_harness import Cluster

PROMPT = prompt(1)


@pytest.fixture
def actor(cluster: Cluster) -> Iterator[Any]:  # noqa: ARG001  # it must run
    actor = get_selection_actor(f"selection-{random.randrange(1 << 32)}", block_size=16, seed=0)
    yield actor
    ray.kill(actor)


async def test_chooses_and_books_for_all_processes(actor: Any) -> None:
    for worker_id in (2**64 - 1, "b"):
        await actor.upsert_worker.remote(worker_id)
    choice = await actor.select_worker.remote("r", PROMPT, [2**64 - 1])
    assert choice == {
        "worker_id": 2**64 - 1,
        "dp_rank": 0,
        "overlap_tokens": 0,
        "effective_prefill_tokens": len(PROMPT),
    }

    @ray.remote(num_cpus=0)
    def elsewhere(actor: Any, prompt: list[int]) -> Any:
        return ray.get(actor.select_and_reserve.remote("r", prompt, ["b"]))

    booked = await elsewhere.remote(actor, PROMPT)
    assert await actor.select_and_reserve.remote("r", PROMPT) == booked
    await actor.on_prefill_complete.remote("r")
    (_, b) = await actor.list_workers.remote()
    assert (b["active_requests"], b["active_prefill_tokens"]) == (1, 0)
    await actor.on_request_completed.remote("r")
    assert (await actor.select_worker.remote("s", PROMPT))["overlap_tokens"] == len(PROMPT)


async def test_token_ids_of_several_kinds(actor: Any) -> None:
    await actor.upsert_worker.remote("a")
    await actor.on_request_added.remote("r", "a", PROMPT)
    for ids in (PROMPT, np.array(PROMPT, np.uint32), array("I", PROMPT)):
        choice = await actor.select_worker.remote("s", ids)
        assert choice["overlap_tokens"] == len(PROMPT)


async def test_the_errors_are_those_of_the_service(actor: Any) -> None:
    with pytest.raises(ValueError, match="token_ids: expected at least one"):
        await actor.select_worker.remote("r", [])
    with pytest.raises(kvroute.NoEligibleWorker):
        await actor.select_worker.remote("r", PROMPT)
    with pytest.raises(KeyError):
        await actor.delete_worker.remote("nobody")


async def test_a_name_is_one_actor(actor: Any) -> None:
    name = f"twice-{random.randrange(1 << 32)}"
    first, second = (get_selection_actor(name, block_size=16) for _ in range(2))
    await first.upsert_worker.remote("a")
    assert [state["worker_id"] for state in await second.list_workers.remote()] == ["a"]
    assert await actor.list_workers.remote() == []
    ray.kill(first)


async def test_an_engine_s_events_change_the_choice(actor: Any) -> None:
    async with EmbeddedEngine(block_size=16, num_blocks=64) as engine:
        await actor.upsert_worker.remote("idle")
        await actor.upsert_worker.remote(
            {
                "worker_id": "busy",
                "kv_events_endpoints": {0: engine.kv_events},
                "replay_endpoint": engine.kv_replay,
            }
        )

        async def connected() -> bool:
            return any(rank["connected"] for rank in await actor.list_workers.remote())

        await eventually("the engine's stream is connected", connected)
        async for _ in engine.answer({"prompt": PROMPT, "max_tokens": 1}, None):
            pass

        async def held() -> bool:
            choice = await actor.select_worker.remote("r", PROMPT)
            return bool(choice["worker_id"] == "busy" and choice["overlap_tokens"] > 0)

        await eventually("the engine's blocks are known", held)

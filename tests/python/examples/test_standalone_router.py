"""POST /find_best_worker, asked as other frontends ask it."""

from __future__ import annotations

import io
from typing import Any

import aiohttp
import kvroute
import pytest
from example_harness import BLOCK_SIZE, MODEL, StandaloneExample, eventually, worker_states

pytestmark = pytest.mark.timeout(120)


async def test_hashes_of_a_held_prompt_find_its_worker(
    standalone: StandaloneExample, http: aiohttp.ClientSession
) -> None:
    token_ids = [(i * 17 + 5) % 241 for i in range(20 * BLOCK_SIZE)]
    body = {"model": MODEL, "prompt": token_ids, "max_tokens": 1}
    before = await worker_states(http, standalone.router_url)
    async with http.post(f"{standalone.url}/v1/completions", json=body) as response:
        holder = int(response.headers["x-kvroute-worker"])

    async def announced() -> bool:
        after = await worker_states(http, standalone.router_url)
        return bool(after[holder]["held_blocks"] >= before[holder]["held_blocks"] + 20)

    await eventually(announced, what="the router hears of the stored blocks")
    question = {
        "local_hashes": kvroute.hash_blocks(token_ids, BLOCK_SIZE).tolist(),
        "num_tokens": len(token_ids),
    }
    for _ in range(8):
        async with http.post(f"{standalone.router_url}/find_best_worker", json=question) as reply:
            assert reply.status == 200
            assert await reply.json() == {"worker_id": holder}


async def test_prompts_shorter_than_a_block_are_spread_evenly(
    standalone: StandaloneExample, http: aiohttp.ClientSession
) -> None:
    chosen = []
    for _ in range(60):
        question = {"local_hashes": [], "num_tokens": 3}
        async with http.post(f"{standalone.router_url}/find_best_worker", json=question) as reply:
            chosen.append((await reply.json())["worker_id"])
    assert min(chosen.count(0), chosen.count(1)) >= 10, chosen


async def test_workers_tell_what_the_router_knows(
    standalone: StandaloneExample, http: aiohttp.ClientSession
) -> None:
    async def reported() -> bool:
        states = await worker_states(http, standalone.router_url)
        return all(state["kv_usage"] is not None for state in states)

    await eventually(reported, what="both engines report their load")
    states = await worker_states(http, standalone.router_url)
    assert [state["worker_id"] for state in states] == [0, 1]
    assert all(state["connected"] is True for state in states)


@pytest.mark.parametrize(
    "question",
    [
        {},
        {"local_hashes": [1]},
        {"local_hashes": [1], "num_tokens": 0},
        {"local_hashes": [1], "num_tokens": BLOCK_SIZE - 1},
        {"local_hashes": [-1], "num_tokens": BLOCK_SIZE},
        {"local_hashes": [2**64], "num_tokens": BLOCK_SIZE},
        {"local_hashes": ["a"], "num_tokens": BLOCK_SIZE},
        {"local_hashes": "1", "num_tokens": BLOCK_SIZE},
    ],
)
async def test_a_malformed_question_is_a_422(
    standalone: StandaloneExample, http: aiohttp.ClientSession, question: dict[str, Any]
) -> None:
    async with http.post(f"{standalone.router_url}/find_best_worker", json=question) as reply:
        assert reply.status == 422
        assert (await reply.json())["detail"]


async def test_a_huge_question_is_refused(
    standalone: StandaloneExample, http: aiohttp.ClientSession
) -> None:
    body = b'{"local_hashes": [' + b"1," * (5 * 2**20) + b'1], "num_tokens": 1}'
    async with http.post(
        f"{standalone.router_url}/find_best_worker",
        data=io.BytesIO(body),
        headers={"content-type": "application/json"},
    ) as reply:
        assert reply.status == 413

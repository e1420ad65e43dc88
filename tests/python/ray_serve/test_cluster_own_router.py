"""The documentation's router of one's own, on a real cluster."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cluster_harness import prompt
from own_router_app import Caller, Who
from ray import serve
from ray.serve.config import RequestRouterConfig
from ray.serve.request_router import RequestRouter

if TYPE_CHECKING:
    from cluster_harness import Cluster

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "ray-serve-selection.md"
REPLICAS = 3
SLOTS = 2


@pytest.fixture(scope="module")
def caller(
    cluster: Cluster,  # noqa: ARG001  # it must run
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Any]:
    """A handle of an application whose model is routed by the documentation's text."""
    text = DOCUMENT.read_text(encoding="utf-8")
    router = re.search(r"^```python\n(# my_router\.py\n.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert router is not None
    folder = tmp_path_factory.mktemp("own_router")
    (folder / "my_router.py").write_text(router[1], encoding="utf-8")
    sys.path.insert(0, str(folder))
    config = RequestRouterConfig(request_router_class="my_router:MyRouter")
    sys.path.remove(str(folder))
    model = serve.deployment(
        Who,
        num_replicas=REPLICAS,
        max_ongoing_requests=SLOTS,
        ray_actor_options={"num_cpus": 0},
        request_router_config=config,
    )
    front = serve.deployment(Caller, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0})
    yield serve.run(front.bind(model.bind()), name="own", route_prefix=None)
    serve.delete("own", _blocking=False)


async def test_a_prompt_goes_where_it_was_before(caller: Any) -> None:
    # Serve says that a request has completed just after its answer: the one before may still count
    # where the next one's blocks are. Shorter ones do not outweigh them.
    prompts = [prompt(seed, blocks=4 + seed) for seed in range(12)]
    homes = [await caller.ask.remote(ids) for ids in prompts]
    assert len(set(homes)) > 1
    for seed in range(3):
        await caller.ask.remote(prompt(500 + seed, blocks=1))
    assert [await caller.ask.remote(ids) for ids in prompts] == homes


async def test_longer_prompts_follow_their_prefix(caller: Any) -> None:
    beginning = prompt(100)
    home = await caller.ask.remote(beginning)
    for seed in range(5):
        assert await caller.ask.remote(beginning + prompt(200 + seed, blocks=1)) == home


@pytest.mark.skipif(
    not hasattr(RequestRouter, "_cancel_routing_task_for_pending_request"),
    reason="before 2.60 Serve loses requests that wait for room",
)
async def test_a_full_replica_leaves_requests_to_the_others(caller: Any) -> None:
    asked = [caller.ask.remote(prompt(300), 0.2) for _ in range(2 * SLOTS * REPLICAS)]
    answers = await asyncio.wait_for(asyncio.gather(*asked), 60)
    assert len(set(answers)) == REPLICAS


@pytest.mark.parametrize("token_ids", [None, [], ["no", "ids"]])
async def test_requests_without_token_ids_are_answered(caller: Any, token_ids: Any) -> None:
    assert await asyncio.wait_for(caller.ask.remote(token_ids), 60)

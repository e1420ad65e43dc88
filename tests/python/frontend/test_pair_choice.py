"""`pair_choice`: the workers of both legs, chosen one by one or together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import kvroute
import pytest
import pytest_asyncio
from disagg_harness import PROMPT, Deployment, deployment
from kvroute.frontend.settings import Settings, load_settings

pytestmark = pytest.mark.timeout(60)
on_fleet = pytest.mark.asyncio(loop_scope="module")

JOINT: dict[str, Any] = {
    "load_balancing_strategy": "kv",
    "pair_choice": "joint",
    "static_topology": "z/a,z/b,z/b,z/a",  # of two prefill and two decode engines
    "transfer_seconds_per_token": "0,0.001,0.002",
    "max_instance_failover_reroute_attempts": 1,
}
HOSTS = ("a", "b", "b", "a")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with deployment("nixl", 2, 2, tmp_path_factory.mktemp("joint"), **JOINT) as made:
        yield made


def router_of(fleet: Deployment) -> kvroute.KvRouter:
    assert fleet.frontend.app.services is not None
    (group,) = fleet.frontend.app.services.fleet.groups.values()
    assert isinstance(group.router, kvroute.KvRouter)
    return group.router


async def hosts_of_both_legs(fleet: Deployment, prompt: list[int]) -> tuple[str, str]:
    status, answer, headers = await fleet.ask("/v1/completions", prompt=prompt, max_tokens=3)
    assert status == 200, answer
    urls = [engine.http_url for engine in (*fleet.prefill, *fleet.decode)]
    await fleet.settled()
    legs = (headers["x-kvroute-prefill-worker"], headers["x-kvroute-worker"])
    first, second = (HOSTS[urls.index(url)] for url in legs)
    return first, second


@on_fleet
async def test_the_decoder_beside_the_best_prefill_worker_is_chosen(fleet: Deployment) -> None:
    router = router_of(fleet)
    best, decoder = fleet.prefill[1], fleet.decode[0]
    router.reserve(PROMPT, allowed=[best.http_url]).release()  # it holds the prompt
    busy = router.reserve(list(range(2000)), allowed=[decoder.http_url], phase="decode")
    try:
        assert router.labels(best.http_url) == {"zone": "z", "host": "b"}
        explained = router.explain_pair(
            PROMPT,
            prefill_allowed=[engine.http_url for engine in fleet.prefill],
            decode_allowed=[engine.http_url for engine in fleet.decode],
        )[1].targets
        assert explained[0].worker == decoder.http_url
    finally:
        busy.release()
    assert await hosts_of_both_legs(fleet, PROMPT) == ("b", "b")
    assert await fleet.frontend.metric("kvroute_decisions_total", rule="joint") == 2


@on_fleet
async def test_a_queue_there_outweighs_the_transfer(fleet: Deployment) -> None:
    prompt = [(11 * number) % 250 for number in range(100)]
    router = router_of(fleet)
    router.reserve(prompt, allowed=[fleet.prefill[0].http_url]).release()
    queued = router.reserve(
        list(range(30_000)), allowed=[fleet.prefill[0].http_url], phase="prefill"
    )
    waited = router.reserve(
        list(range(30_000, 60_000)), allowed=[fleet.decode[0].http_url], phase="decode"
    )
    try:
        status, answer, headers = await fleet.ask("/v1/completions", prompt=prompt, max_tokens=3)
    finally:
        queued.release()
        waited.release()
    assert status == 200, answer
    assert headers["x-kvroute-prefill-worker"] == fleet.prefill[1].http_url
    assert headers["x-kvroute-worker"] == fleet.decode[0].http_url, "beside it"
    await fleet.settled()


@on_fleet
async def test_without_prefill_workers_a_request_goes_whole(fleet: Deployment) -> None:
    router = router_of(fleet)
    for engine in fleet.prefill:
        router.set_draining(engine.http_url)
    try:
        status, answer, headers = await fleet.ask("/v1/completions", prompt=PROMPT, max_tokens=3)
    finally:
        for engine in fleet.prefill:
            router.set_draining(engine.http_url, False)
    assert status == 200, answer
    assert "x-kvroute-prefill-worker" not in headers
    name = "kvroute_disagg_whole_requests_total"
    assert await fleet.frontend.metric(name, reason="no_prefill_worker") == 1
    for engine in fleet.decode:
        router.set_draining(engine.http_url)
    try:
        status, answer, _ = await fleet.ask("/v1/completions", prompt=PROMPT, max_tokens=3)
    finally:
        for engine in fleet.decode:
            router.set_draining(engine.http_url, False)
    assert status == 503
    assert "decode" in answer["error"]["message"]
    await fleet.settled()


@on_fleet
async def test_a_failed_leg_is_tried_elsewhere(fleet: Deployment) -> None:
    prompt = [(13 * number) % 250 for number in range(100)]
    best = fleet.prefill[0]
    router_of(fleet).reserve(prompt, allowed=[best.http_url]).release()
    await fleet.fault(best, "prefill", "error500")
    status, answer, headers = await fleet.ask("/v1/completions", prompt=prompt, max_tokens=3)
    assert status == 200, answer
    assert headers["x-kvroute-prefill-worker"] == fleet.prefill[1].http_url
    await fleet.settled()


@on_fleet
async def test_an_explanation_shows_both_legs_beside_each_other(fleet: Deployment) -> None:
    prompt = [(17 * number) % 250 for number in range(100)]
    status, answer, _ = await fleet.ask("/v1/kvroute/explain", prompt=prompt)
    assert status == 200, answer
    legs = answer["phases"]
    assert {leg["rule"] for leg in legs.values()} == {"joint"}
    assert "transfer_seconds" in legs["decode"]["targets"][0]["terms"]
    assert legs["prefill"]["targets"][0]["cost"] == legs["decode"]["targets"][0]["cost"]


def settings(**given: Any) -> Settings:
    backends = {"static_backends": "http://a,http://b,http://c,http://d", "static_models": "m"}
    labels = {
        "static_model_labels": "p,p,d,d",
        "prefill_model_labels": "p",
        "decode_model_labels": "d",
        "routing_logic": "disaggregated_prefill_orchestrated",
    }
    return load_settings({**backends, **labels, **given})


def test_the_topology_is_labels_of_the_workers() -> None:
    joint = settings(**{**JOINT, "static_topology": "z/a,z,/b,"})
    assert [backend.labels for backend in joint.backends()] == [
        {"zone": "z", "host": "a"},
        {"zone": "z"},
        {"host": "b"},
        {},
    ]
    assert joint.pair_options == {"same_host": 0.0, "same_zone": 0.001, "elsewhere": 0.002}
    assert settings(load_balancing_strategy="kv", pair_choice="joint").pair_options == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({**JOINT, "decode_load_balancing_strategy": "random"}, "pair_choice: joint .* random"),
        ({**JOINT, "load_balancing_strategy": "qps"}, "pair_choice: joint .* qps"),
        ({**JOINT, "pair_choice": "independent"}, "static_topology: expected pair_choice joint"),
        ({"transfer_seconds_per_token": "0,1,2"}, "transfer_seconds_per_token: expected pair_"),
        ({**JOINT, "static_topology": "z/a,z/b"}, "static_topology: expected 4 elements, got 2"),
        ({**JOINT, "transfer_seconds_per_token": "1,2"}, "the seconds of a token"),
        ({**JOINT, "transfer_seconds_per_token": "3,2,1"}, "each at least the one before"),
        ({**JOINT, "routing_logic": "kv_cost"}, "routing_logic disaggregated_prefill_orch"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], message: str) -> None:
    if given.get("routing_logic") == "kv_cost":
        given = {"pair_choice": "joint", "routing_logic": "kv_cost"}
        labels = {"static_model_labels", "prefill_model_labels", "decode_model_labels"}
        given.update(dict.fromkeys(labels, ""))
    with pytest.raises(ValueError, match=message):
        settings(**given)

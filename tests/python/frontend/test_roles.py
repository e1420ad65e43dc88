"""Roles of workers: shown, and changed while requests run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from disagg_harness import PROMPT, events, reason_of
from frontend_harness import FakeEngine, answer, replies, running_frontend
from kvroute.disagg.connectors.nixl import NixlConnector, NixlOptions
from kvroute.disagg.legs import Worker
from kvroute.engines import CostModel
from kvroute.frontend.fleet import Fleet
from kvroute.frontend.protocols import core_router
from kvroute.frontend.roles import Roles
from kvroute.frontend.settings import Settings
from role_harness import LABELS, LOGIC, WORKERS, change, fleet_of, legs


async def test_workers_are_shown_with_their_roles() -> None:
    async with fleet_of("p,d,b") as (frontend, engines):
        async with frontend.client.get(f"{frontend.url}{WORKERS}?model=m") as response:
            shown = (await response.json())["models"]["m"]
        assert [(one["worker"], one["role"]) for one in shown] == [
            (engine.http_url, role)
            for engine, role in zip(engines, ("prefill", "decode", "both"), strict=True)
        ]
        assert shown[0] == {
            "worker": engines[0].http_url,
            "role": "prefill",
            "dp_ranks": 1,
            "healthy": True,
            "takes_requests": True,
            "requests_in_flight": 0,
        }
        role = {"worker": engines[0].http_url, "role": "prefill"}
        assert await frontend.metric("kvroute_worker_role", **role) == 1


async def test_a_changed_role_holds_from_the_next_request_on_and_nothing_is_lost() -> None:
    async with fleet_of("p,d,d") as (frontend, engines):
        first, second, third = (engine.http_url for engine in engines)
        assert (await legs(frontend))[0] == first
        held = frontend.router.overlaps(PROMPT)
        assert held[first, 0] > 0
        status, shown = await change(frontend, worker=second + "/", role="prefill")
        assert status == 200
        assert [one["role"] for one in shown["models"]["m"]] == ["prefill", "prefill", "decode"]
        status, _ = await change(frontend, worker=first, label="d")
        assert status == 200
        assert frontend.router.overlaps(PROMPT) == held
        for _ in range(3):
            prefill, decode = await legs(frontend)
            assert prefill == second
            assert decode in (first, third)
        assert await frontend.metric("kvroute_worker_role", worker=first, role="prefill") == 0
        assert await frontend.metric("kvroute_worker_role", worker=first, role="decode") == 1


async def test_legs_that_run_go_on_when_their_workers_get_other_roles() -> None:
    async with fleet_of("p,d", cost=CostModel(speed=2)) as (frontend, engines):
        first, second = (engine.http_url for engine in engines)
        body = {"prompt": PROMPT, "max_tokens": 200, "stream": True}
        async with frontend.completion(body) as response:
            content = await response.content.readuntil(b"\n\n")
            for url, role in ((first, "decode"), (second, "prefill")):
                assert (await change(frontend, worker=url, role=role))[0] == 200
            async with frontend.client.get(frontend.url + WORKERS) as shown:
                (one, other) = (await shown.json())["models"]["m"]
            assert (one["requests_in_flight"], other["requests_in_flight"]) == (0, 1)
            content += await response.content.read()
        got, done = events(content)
        assert done
        assert reason_of(got) == "length"
        assert frontend.router.stats().reservations == 0
        assert await legs(frontend) == (second, first)


async def test_without_decode_workers_the_answer_is_503_until_one_has_the_role() -> None:
    async with fleet_of("p,d") as (frontend, engines):
        url = engines[1].http_url
        await change(frontend, worker=url, role="prefill")
        async with frontend.completion({"prompt": PROMPT}) as response:
            assert response.status == 503
            assert "no healthy decode worker" in (await response.json())["error"]["message"]
        await change(frontend, worker=url, role="both")
        assert await legs(frontend) == (engines[0].http_url, url)


async def test_a_worker_of_both_roles_does_not_prefill_for_itself() -> None:
    async with fleet_of("b") as (frontend, engines):
        assert await legs(frontend) == (None, engines[0].http_url)
        reason = {"model": "m", "reason": "no_prefill_worker"}
        assert await frontend.metric("kvroute_disagg_whole_requests_total", **reason) == 1
    async with fleet_of("b,b") as (frontend, _):
        for _ in range(4):
            prefill, decode = await legs(frontend)
            assert prefill is not None
            assert prefill != decode


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        (b'{"role": "both"}', 400, "worker"),
        (b'{"worker": 5, "role": "both"}', 400, "worker"),
        (b'{"worker": "http://nobody:1", "role": "both"}', 404, "worker"),
        (b'{"worker": "%s"}', 400, "role"),
        (b'{"worker": "%s", "role": "both", "label": "b"}', 400, "role"),
        (b'{"worker": "%s", "role": "boss"}', 400, "role"),
        (b'{"worker": "%s", "role": ["both"]}', 400, "role"),
        (b'{"worker": "%s", "label": "x"}', 400, "label"),
        (b'{"worker": "%s", "label": null}', 400, "label"),
        (b'{"worker": "%s", "label": ["b"]}', 400, "label"),
        (b'{"worker": "%s", "role": "both", "rank": 0}', 400, "rank"),
        (b'"' + b"x" * (1 << 16) + b'"', 413, None),
    ],
)
async def test_what_is_wrong_in_a_change_is_named_and_nothing_changes(
    body: bytes, status: int, param: str | None
) -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(
            engine.url,
            make_router=core_router,
            routing_logic=LOGIC,
            static_model_labels="p",
            **LABELS,
        ) as frontend,
    ):
        content = body.replace(b"%s", engine.url.encode())
        async with frontend.client.put(frontend.url + WORKERS, data=content) as response:
            assert response.status == status
            assert (await response.json())["error"]["param"] == param
        async with frontend.client.get(frontend.url + WORKERS) as response:
            assert (await response.json())["models"]["m"][0]["role"] == "prefill"


async def test_without_disaggregation_no_worker_has_another_role() -> None:
    async with running_frontend("http://a:1") as frontend:
        status, said = await change(frontend, worker="http://a:1", role="prefill")
        assert status == 400
        assert "routing logic disaggregated_prefill" in said["error"]["message"]


async def test_roles_are_behind_the_key_and_a_proxy_s_clients_need_one() -> None:
    settings: dict[str, Any] = {"routing_logic": LOGIC, "make_router": core_router}
    async with running_frontend("http://a:1", api_key="k", **settings) as frontend:
        assert (await change(frontend, worker="http://a:1", role="both"))[0] == 401
        async with frontend.client.get(frontend.url + WORKERS) as response:
            assert response.status == 401
    async with running_frontend("http://a:1", **settings) as frontend:
        for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
            async with frontend.client.put(
                frontend.url + WORKERS,
                data=b'{"worker": "http://a:1", "role": "decode"}',
                headers={header: "127.0.0.1"},
            ) as response:
                assert response.status == 403
        assert (await change(frontend, worker="http://a:1", role="decode"))[0] == 200


async def test_a_role_that_the_connector_does_not_know_a_worker_in_is_refused() -> None:
    receiver = {"receiver_host": "d", "receiver_init_port": 1, "receiver_alloc_port": 2}
    async with running_frontend(
        "http://p:1",
        "http://d:1",
        make_router=core_router,
        routing_logic=LOGIC,
        static_model_labels="p,d",
        disagg_connector_type="lmcache",
        decoder_registry={"http://d:1": receiver},
        proxy_host="127.0.0.1",
        proxy_port=0,
        **LABELS,
    ) as frontend:
        status, said = await change(frontend, worker="http://p:1", role="decode")
        assert status == 400
        assert "decoder_registry: no entry for decoder http://p:1" in said["error"]["message"]
        async with frontend.client.get(frontend.url + WORKERS) as response:
            shown = (await response.json())["models"]["m"]
        assert [one["role"] for one in shown] == ["prefill", "decode"]
        assert (await change(frontend, worker="http://d:1", role="prefill"))[0] == 200


class Listening(NixlConnector):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(NixlOptions())
        self.told: list[tuple[list[str], list[str]]] = []

    def workers_are(self, prefill: Sequence[Worker], decode: Sequence[Worker]) -> None:
        self.told.append(([one.url for one in prefill], [one.url for one in decode]))


def test_the_connector_is_told_of_every_model_s_workers_at_once() -> None:
    settings = Settings(
        static_backends="http://a:1,http://b:1,http://c:1,http://d:1",
        static_models="m,m,n,n",
        routing_logic=LOGIC,
        static_model_labels="p,d,p,b",
        **LABELS,
    )
    fleet = Fleet(settings, core_router)
    connector = Listening()
    roles = Roles(fleet, connector)
    roles.tell_connector()
    roles.change("http://c:1", "decode")
    fleet.close()
    assert connector.told == [
        (["http://a:1", "http://c:1", "http://d:1"], ["http://b:1", "http://d:1"]),
        (["http://a:1", "http://d:1"], ["http://b:1", "http://c:1", "http://d:1"]),
    ]

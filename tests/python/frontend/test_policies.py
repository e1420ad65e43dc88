"""Which policy routes: flags, files, sessions, and the change of it while requests run."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import kvroute
import pytest
from frontend_harness import FakeEngine, Frontend, answer, replies, running_frontend
from kvroute.frontend.settings import Settings, load_settings

MINIMAL: dict[str, Any] = {"static_backends": "http://a:1", "static_models": "m"}


@pytest.mark.parametrize("name", [*kvroute.policy_names(), "roundrobin"])
def test_every_policy_is_selectable_by_its_name(name: str) -> None:
    if name == "gate":
        pytest.skip("it has parameters that must be given")
    assert Settings(**MINIMAL, routing_logic=name, session_key="X-User").policy == name


@pytest.mark.parametrize(
    ("flags", "policy"),
    [
        ({"routing_logic": "kvaware", "kv_aware_threshold": 500}, {"kv_aware_threshold": 500}),
        (
            {
                "routing_logic": "load_balanced_kvaware",
                "kv_aware_threshold": 0,
                "imbalanced_threshold": "inf",
                "stats_missing": "zero",
            },
            {
                "kv_aware_threshold": 0,
                "imbalanced_threshold": float("inf"),
                "stats_missing": "zero",
            },
        ),
        (
            {"routing_logic": "least_loaded", "stats_missing": "round_robin"},
            {"stats_missing": "round_robin"},
        ),
        (
            {"routing_logic": "prefixaware", "prefix_min_match_length": 128},
            {"prefix_min_match_length": 128},
        ),
        ({"routing_logic": "loadaware", "loadaware_beta": 0.5}, {"beta": 0.5}),
    ],
)
def test_production_stack_s_flags_are_parameters_of_their_policies(
    flags: dict[str, Any], policy: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(**MINIMAL, **flags)
    assert settings.policy == {"name": flags["routing_logic"], **policy}
    assert caplog.records == []


def test_a_value_that_the_policy_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="stats_missing"):
        Settings(**MINIMAL, routing_logic="load_balanced_kvaware", stats_missing="round_robin")


@pytest.mark.parametrize("name", ["kv_cost.yaml", "kv_cost.json"])
def test_a_file_gives_a_policy_with_its_parameters(tmp_path: Path, name: str) -> None:
    spec = {"name": "kv_cost", "overlap_credit": 0.5, "temperature": 0.1}
    file = tmp_path / name
    file.write_text(json.dumps(spec))  # JSON is YAML
    assert Settings(**MINIMAL, policy_config=file).policy == spec
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**MINIMAL, "policy-config": str(file)}))
    assert load_settings({}, config).policy == spec


def test_what_is_wrong_in_a_policy_s_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text('{"name": "kv_cost", "overlap_credit": 7}')
    with pytest.raises(ValueError, match=r"p\.json: policy.*overlap_credit"):
        Settings(**MINIMAL, policy_config=file)
    file.write_text('{"name": "kv_cost"}')
    with pytest.raises(ValueError, match="policy_config: expected it without routing_logic"):
        Settings(**MINIMAL, policy_config=file, routing_logic="kv_cost")


def test_a_flag_of_another_policy_changes_nothing_and_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "kvroute.frontend"):
        assert Settings(**MINIMAL, kv_aware_threshold=5).policy == "kv_cost"
    assert [record.getMessage() for record in caplog.records] == [
        "--kv-aware-threshold changes nothing here: it is for the policies "
        "kvaware, load_balanced_kvaware"
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"imbalanced_threshold": "nan"},
        {"imbalanced_threshold": -1},
        {"kv_aware_threshold": -1},
        {"prefix_min_match_length": -1},
        {"loadaware_beta": -1},
        {"loadaware_beta": "nan"},
        {"reservation_ttl": 0},
        {"stats_missing": "guess"},
        {"session_key": ""},
        {"max_kv_usage": 1.5},
        {"queue_order": "lifo"},
    ],
)
def test_a_wrong_parameter_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(**MINIMAL, **wrong)


def test_the_beta_of_loadaware_comes_from_production_stack_s_variable_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {**MINIMAL, "routing_logic": "loadaware"}
    file = tmp_path / "c.json"
    file.write_text('{"loadaware-beta": 9}')
    monkeypatch.setenv("LOADAWARE_BETA", "2.5")
    assert load_settings(given, file).policy == {"name": "loadaware", "beta": 2.5}
    assert load_settings({**given, "loadaware_beta": 1.0}).policy["beta"] == 1
    monkeypatch.setenv("KVROUTE_LOADAWARE_BETA", "3")
    assert load_settings(given, file).policy["beta"] == 3
    monkeypatch.delenv("KVROUTE_LOADAWARE_BETA")
    monkeypatch.setenv("LOADAWARE_BETA", "much")
    with pytest.raises(ValueError, match="loadaware_beta"):
        load_settings(given)


def test_sessions_need_the_name_of_their_id(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text('{"name": "session", "bounded_load": 1.25}')
    for policy in ({"routing_logic": "session"}, {"policy_config": file}):
        with pytest.raises(ValueError, match="session_key: expected the header or field"):
            Settings(**MINIMAL, **policy)
        assert Settings(**MINIMAL, **policy, session_key="X-User").session_key == "X-User"
    assert Settings(**MINIMAL, routing_logic="kvaware").session_key is None


@pytest.mark.parametrize(
    ("settings", "is_said"),
    [
        ({"imbalanced_threshold": 5}, True),
        ({"imbalanced_threshold": 5, "stats_missing": "skip"}, True),
        ({"imbalanced_threshold": 5, "load_events": "tcp://a:5"}, False),
        ({"imbalanced_threshold": 5, "engine_stats_interval": 1}, False),
        ({"imbalanced_threshold": 5, "stats_missing": "zero"}, False),  # then bookings count
        ({"imbalanced_threshold": "inf"}, False),
        ({}, False),
    ],
)
def test_a_balance_that_nobody_s_load_can_tip_is_said(
    settings: dict[str, Any], is_said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    given = {"routing_logic": "load_balanced_kvaware", "engine_stats_interval": 0, **settings}
    Settings(**MINIMAL, **given)
    said = [record.getMessage() for record in caplog.records]
    assert [text.split(":")[0] for text in said] == (
        ["load_balanced_kvaware will never balance"] if is_said else []
    )


@pytest.mark.parametrize("name", ["p.yaml", "p.json"])
def test_a_file_may_write_infinity_as_a_text(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text('{"name": "load_balanced_kvaware", "imbalanced_threshold": "inf"}')
    assert Settings(**MINIMAL, policy_config=file).policy["name"] == "load_balanced_kvaware"
    file.write_text('{"name": "load_balanced_kvaware", "kv_aware_threshold": "infinite"}')
    with pytest.raises(ValueError, match=r"policy.kv_aware_threshold: expected a number"):
        Settings(**MINIMAL, policy_config=file)


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"X-User": "s1"}, {}, "s1"),
        ({"x-user": "s1"}, {"X-User": "s2"}, "s1"),
        ({}, {"X-User": "s2"}, "s2"),
        ({}, {"X-User": 17}, "17"),
        ({}, {"x-user": "s2"}, None),
        ({}, {"X-User": ["s2"]}, None),
        ({}, {}, None),
    ],
)
async def test_the_session_is_the_header_s_else_the_body_s(
    headers: dict[str, str], body: dict[str, Any], expected: str | None
) -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url, session_key="X-User") as frontend,
    ):
        async with frontend.completion(body, headers=headers) as response:
            assert response.status == 200
        assert [call["session"] for call in frontend.router.calls] == [expected]


async def test_without_a_key_nobody_has_a_session() -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url) as frontend,
        frontend.completion({"session_id": "s"}, headers={"session_id": "s"}) as response,
    ):
        assert response.status == 200
        assert frontend.router.calls[0]["session"] is None


async def put(frontend: Frontend, body: Any, query: str = "", **options: Any) -> tuple[int, Any]:
    url = f"{frontend.url}/v1/kvroute/policy{query}"
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with frontend.client.put(url, data=data, **options) as response:
        return response.status, await response.json()


async def test_the_policy_changes_between_two_requests() -> None:
    spec = {"name": "kv_cost", "temperature": 0.25}
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url, routing_logic="round_robin") as frontend,
    ):
        url = frontend.url + "/v1/kvroute/policy"
        assert await (await frontend.client.get(url)).json() == {"models": {"m": "round_robin"}}
        async with frontend.completion({"prompt": "text"}):
            assert [request.path for request in engine.requests] == ["/v1/completions"]
        assert await put(frontend, spec) == (200, {"models": {"m": spec}})
        assert frontend.router.policy == spec
        assert await (await frontend.client.get(url)).json() == {"models": {"m": spec}}
        async with frontend.completion({"prompt": "text"}):
            assert "/tokenize" in [request.path for request in engine.requests]
        assert await put(frontend, "random", "?model=m") == (200, {"models": {"m": "random"}})


async def test_an_infinite_threshold_survives_being_read_and_written() -> None:
    spec = {
        "name": "load_balanced_kvaware",
        "imbalanced_threshold": "inf",
        "fallback": {"name": "gate", "threshold": "inf"},
    }
    async with running_frontend(
        "http://a:1", routing_logic="load_balanced_kvaware", imbalanced_threshold="inf"
    ) as frontend:
        url = frontend.url + "/v1/kvroute/policy"
        told = (await (await frontend.client.get(url)).json())["models"]["m"]
        assert told == {"name": "load_balanced_kvaware", "imbalanced_threshold": "inf"}
        assert await put(frontend, told) == (200, {"models": {"m": told}})
        assert await put(frontend, spec) == (200, {"models": {"m": spec}})
        status, _ = await put(frontend, {"name": "kv_cost", "temperature": "inf"})
        assert status == 400
        assert kvroute.KvRouter(16, frontend.router.policy).policy_spec == spec


@pytest.mark.parametrize(
    ("body", "query", "status", "message"),
    [
        (b"{", "", 400, "not valid JSON"),
        ([1], "", 400, "policy: expected a name"),
        ("best", "", 400, "policy"),
        ({"name": "kv_cost", "overlap_credit": "much"}, "", 400, "overlap_credit"),
        ("random", "?model=n", 404, "the model 'n' does not exist"),
        (b'"' + b"x" * 70_000 + b'"', "", 413, "larger than 65536 bytes"),
    ],
)
async def test_what_is_no_policy_changes_nothing(
    body: Any, query: str, status: int, message: str
) -> None:
    async with running_frontend("http://a:1") as frontend:
        got, answered = await put(frontend, body, query)
        assert got == status
        assert message in answered["error"]["message"]
        assert frontend.router.policy == "kv_cost"


async def test_the_policy_is_behind_the_key() -> None:
    async with running_frontend("http://a:1", api_key="k") as frontend:
        assert (await put(frontend, "random"))[0] == 401
        assert frontend.router.policy == "kv_cost"
        assert (await put(frontend, "random", headers={"Authorization": "Bearer k"}))[0] == 200


@pytest.mark.parametrize(
    ("address", "key", "status"),
    [
        ("127.0.0.1", None, 200),
        ("127.8.9.1", None, 200),
        ("::1", None, 200),
        ("::ffff:127.0.0.1", None, 200),
        ("10.0.0.7", None, 403),
        ("::ffff:10.0.0.7", None, 403),
        ("2001:db8::1", None, 403),
        ("not an address", None, 403),
        (None, None, 403),
        ("10.0.0.7", "k", 200),
    ],
)
async def test_without_a_key_only_this_machine_changes_the_policy(
    address: str | None, key: str | None, status: int
) -> None:
    async with running_frontend("http://a:1", api_key=key) as frontend:
        sent: list[dict[str, Any]] = []
        body = [{"type": "http.request", "body": b'"random"', "more_body": False}]

        async def receive() -> dict[str, Any]:
            return body.pop() if body else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        path = "/v1/kvroute/policy"
        await frontend.app(
            {
                "type": "http",
                "asgi": {"version": "3.0"},
                "http_version": "1.1",
                "scheme": "http",
                "method": "PUT",
                "path": path,
                "raw_path": path.encode(),
                "query_string": b"",
                "headers": [(b"authorization", b"Bearer k")],
                "client": None if address is None else (address, 4711),
                "server": ("127.0.0.1", 1),
            },
            receive,
            send,
        )
        assert sent[0]["status"] == status
        assert frontend.router.policy == ("random" if status == 200 else "kv_cost")
        if status == 403:
            message = json.loads(sent[1]["body"])["error"]["message"]
            assert "--api-key" in message
            assert "loopback" in message


async def test_the_last_decisions_are_told_with_every_term() -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url, decision_log=10) as frontend,
    ):
        assert frontend.router.options == {"decision_log": 10}
        for number in range(3):
            async with frontend.completion(headers={"X-Request-Id": f"r{number}"}) as response:
                assert response.status == 200
        async with frontend.client.get(frontend.url + "/debug/decisions?limit=2") as response:
            last = (await response.json())["models"]["m"]
        assert [decision["request_id"].partition("#")[0] for decision in last] == ["r1", "r2"]
        assert 4 < last[0]["age_seconds"] < 60
        assert last[0]["worker"] == engine.url
        assert last[0]["rule"] == "spread"
        assert last[0]["targets"][0]["terms"] == {"overlap": 1.0}


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [("?limit=0", 400, "limit"), ("?limit=many", 400, "limit"), ("?model=n", 404, "model")],
)
async def test_a_wrong_question_for_decisions_is_refused(
    query: str, status: int, param: str
) -> None:
    async with (
        running_frontend("http://a:1") as frontend,
        frontend.client.get(f"{frontend.url}/debug/decisions{query}") as response,
    ):
        assert response.status == status
        assert (await response.json())["error"]["param"] == param


async def test_decisions_are_behind_the_key() -> None:
    async with (
        running_frontend("http://a:1", api_key="k") as frontend,
        frontend.client.get(frontend.url + "/debug/decisions") as response,
    ):
        assert response.status == 401


def test_a_report_counts_until_two_readings_have_failed() -> None:
    def options(**settings: Any) -> dict[str, Any]:
        return Settings(**MINIMAL, **settings).router_options()

    assert options(engine_stats_interval=30, request_stats_window=15) == {
        "report_lifetime": 90.0,
        "load_window": 15.0,
    }
    assert options(engine_stats_interval=20) == {}

"""Settings of disaggregation: the same from flags, files and variables; nonsense is refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kvroute.frontend.settings import Settings, load_settings

BACKENDS = "http://p:1,http://d:1,http://e:1"
SPLIT: dict[str, Any] = {
    "static_backends": BACKENDS,
    "static_models": "m",
    "routing_logic": "disaggregated_prefill_orchestrated",
    "static_model_labels": "prefill,decode,decode",
    "prefill_model_labels": "prefill",
    "decode_model_labels": "decode",
}
RECEIVERS = {
    f"http://{name}:1": {
        "receiver_host": name,
        "receiver_init_port": [8300, 8301],
        "receiver_alloc_port": [8400, 8401],
    }
    for name in ("d", "e")
}


def from_file(given: dict[str, Any], folder: Path, _: pytest.MonkeyPatch) -> Settings:
    file = folder / "settings.json"
    file.write_text(json.dumps({name.replace("_", "-"): given[name] for name in given}))
    return load_settings({}, file)


def from_environment(given: dict[str, Any], _: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in given.items():
        text = value if isinstance(value, str) else json.dumps(value)
        monkeypatch.setenv(f"KVROUTE_{name.upper()}", text)
    return load_settings({})


def from_flags(given: dict[str, Any], _: Path, __: pytest.MonkeyPatch) -> Settings:
    return load_settings(given)


SOURCES = pytest.mark.parametrize(
    "source", [from_flags, from_file, from_environment], ids=["flags", "file", "environment"]
)
Source = Callable[[dict[str, Any], Path, pytest.MonkeyPatch], Settings]


@SOURCES
def test_roles_strategies_and_the_condition_come_from_everywhere(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        **SPLIT,
        "load_balancing_strategy": "qps",
        "prefill_load_balancing_strategy": "kv",
        "routing_threshold": 256,
        "token_estimate": "chars",
        "uncached_threshold": 64,
        "prefill_timeout_seconds": 7,
    }
    settings = source(given, tmp_path, monkeypatch)
    assert [b.role for b in settings.backends()] == ["prefill", "decode", "decode"]
    assert settings.phase_policies == {"prefill": "ttft", "decode": "qps"}
    assert settings.policy == "kv_cost"  # a whole request may be one whose prompt is held
    assert settings.routing_threshold == 256
    assert settings.token_estimate == "chars"
    assert settings.uncached_threshold == 64
    assert settings.prefill_timeout_seconds == 7


@SOURCES
@pytest.mark.parametrize("registry", ["object", "text", "file"])
def test_a_registry_of_decoders_comes_from_everywhere(
    source: Source, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps(RECEIVERS)
    (tmp_path / "registry.json").write_text(text)
    value = {"object": RECEIVERS, "text": text, "file": f"@{tmp_path}/registry.json"}[registry]
    given = {
        **SPLIT,
        "disagg_connector_type": "lmcache",
        "decoder_registry": value,
        "proxy_host": "0.0.0.0",
        "proxy_port": 9500,
        "transfer_timeout_seconds": 3,
    }
    options = source(given, tmp_path, monkeypatch).connector().options
    assert {url: entry.host for url, entry in options.entries.items()} == {
        "http://d:1": "d",
        "http://e:1": "e",
    }
    assert (options.proxy_host, options.proxy_port) == ("0.0.0.0", 9500)
    assert options.notice_timeout == 3


@SOURCES
@pytest.mark.parametrize(("port", "ports"), [(8300, (8300,)), ("8300,8301", (8300, 8301))])
def test_the_only_decoder_s_ports_come_from_everywhere(
    source: Source, port: Any, ports: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        **SPLIT,
        "static_backends": "http://p:1,http://d:1",
        "static_model_labels": "prefill,decode",
        "disagg_connector_type": "lmcache",
        "decoder_host": "d",
        "decoder_init_port": port,
        "decoder_alloc_port": port,
    }
    options = source(given, tmp_path, monkeypatch).connector().options
    assert options.only.init_ports == options.only.alloc_ports == ports
    assert (options.proxy_port, options.proxy_host) == (8500, "localhost")


def test_options_of_a_connector_come_from_a_file_and_flags_win(tmp_path: Path) -> None:
    file = tmp_path / "sglang.yaml"
    file.write_text("bootstrap-port: 9000\nbootstrap_ports: {'http://p:1': 9001}\n")
    given = {**SPLIT, "disagg_connector_type": "sglang", "disagg_options": file}
    assert Settings(**given).connector().options.port_of("http://q:1") == 9000
    options = Settings(**given, bootstrap_port=9002).connector().options
    assert (options.port_of("http://p:1"), options.port_of("http://q:1")) == (9001, 9002)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("static_model_labels", "a,b,c"),
        ("prefill_model_labels", "a"),
        ("decode_model_labels", "a"),
        ("load_balancing_strategy", "random"),
        ("prefill_load_balancing_strategy", "random"),
        ("decode_load_balancing_strategy", "round_robin"),
        ("routing_threshold", 1),
        ("token_estimate", "chars"),
        ("uncached_threshold", 0),
        ("disagg_connector_type", "lmcache"),
        ("disagg_options", "/a/file"),
        ("prefill_timeout_seconds", 1),
        ("transfer_timeout_seconds", 1),
        ("decoder_host", "d"),
        ("decoder_init_port", 1),
        ("decoder_alloc_port", "1"),
        ("decoder_registry", "{}"),
        ("proxy_host", "h"),
        ("proxy_port", 8500),
        ("bootstrap_port", 8998),
    ],
)
def test_what_only_disaggregation_uses_is_refused_without_it(field: str, value: Any) -> None:
    plain = {"static_backends": BACKENDS, "static_models": "m", field: value}
    message = f"{field}: expected it with the routing_logic .*disaggregated.*, got kv_cost"
    with pytest.raises(ValueError, match=f"(?s){message}"):
        Settings(**plain)
    if "label" in field or "strategy" in field:
        return
    with pytest.raises(ValueError, match=f"{field}: .*orchestrated, got disaggregated_prefill"):
        Settings(**plain, routing_logic="disaggregated_prefill")


def test_it_is_refused_beside_a_policy_s_file(tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    file.write_text('{"name": "kv_cost"}')
    plain = {"static_backends": BACKENDS, "static_models": "m", "policy_config": file}
    with pytest.raises(ValueError, match=r"routing_threshold: .*, got policy_config"):
        Settings(**plain, routing_threshold=5)
    assert Settings(**plain, routing_threshold=-5).routing_threshold == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"static_model_labels": ""}, "prefill_model_labels: expected static_model_labels"),
        ({"static_model_labels": "prefill,decode"}, "expected 3 elements, got 2"),
        ({"whole_model_labels": "decode"}, "whole_model_labels: .* do not name, got 'decode'"),
        *(
            (
                {"disagg_connector_type": name, "decode_model_labels": "prefill,decode"},
                f"static_model_labels: http://.*: expected prefill, decode or whole, got both: an "
                f"engine of {name}",
            )
            for name in ("sglang", "p2p_nccl")
        ),
        ({"static_model_labels": "prefill,decode,x"}, "expected labels that .* got 'x'"),
        ({"static_model_labels": "prefill,decode,"}, "expected labels that .* got ''"),
        (
            {"prefill_model_labels": "", "decode_model_labels": ""},
            "static_model_labels: expected prefill_model_labels and decode_model_labels",
        ),
        ({"load_balancing_strategy": "best"}, "load_balancing_strategy.*expected one of"),
        ({"decode_load_balancing_strategy": "best"}, "decode_load_balancing_strategy.*got 'best'"),
        ({"token_estimate": "words"}, "token_estimate"),
        ({"uncached_threshold": -1}, "uncached_threshold"),
        ({"prefill_timeout_seconds": 0}, "prefill_timeout_seconds"),
        ({"proxy_port": 70000}, "proxy_port"),
        ({"proxy_port": 8500}, "proxy_port: the connector nixl has no use for it"),
        ({"transfer_timeout_seconds": 3}, "transfer_timeout_seconds: the connector nixl has no"),
        ({"bootstrap_port": 8998}, "bootstrap_port: the connector nixl has no use"),
        ({"decoder_registry": "{}"}, "decoder_registry: the connector nixl has no use"),
        ({"disagg_connector_type": "smoke"}, "connector 'smoke': there is none of this name"),
        ({"disagg_connector_type": "lmcache"}, "decoder_registry: lmcache needs it"),
        (
            {"disagg_connector_type": "lmcache", "decoder_registry": "{"},
            "decoder_registry: expected JSON or @FILE",
        ),
        (
            {"disagg_connector_type": "lmcache", "decoder_registry": "@/does/not/exist"},
            "decoder_registry: cannot read /does/not/exist",
        ),
        (
            {
                "disagg_connector_type": "lmcache",
                "decoder_registry": {"http://d:1": RECEIVERS["http://d:1"]},
            },
            "decoder_registry: no entry for decoder http://e:1",
        ),
        (
            {
                "disagg_connector_type": "lmcache",
                "decoder_host": "d",
                "decoder_init_port": 1,
                "decoder_alloc_port": 2,
            },
            "no entry for decoder .* are for one decoder",
        ),
    ],
)
def test_what_is_wrong_is_named_at_the_start(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){message}"):
        Settings(**{**SPLIT, **wrong})


def test_a_flag_of_a_policy_is_said_to_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "kvroute.frontend"):
        Settings(**SPLIT, kv_aware_threshold=5)
    assert "--kv-aware-threshold changes nothing here" in caplog.text


def test_a_model_without_a_role_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "kvroute.frontend"):
        Settings(**{**SPLIT, "static_models": "m,m,n"})
    assert [record.getMessage() for record in caplog.records] == [
        "the model n has no prefill worker yet"
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"load_balancing_strategy": "least_loaded"}, None),
        ({"load_balancing_strategy": "least_loaded", "engine_stats_interval": 0}, "by turns"),
        ({"routing_threshold": 5}, None),
        ({"disagg_connector_type": "sglang"}, None),
        ({"disagg_connector_type": "sglang", "routing_threshold": 5}, "thresholds count for"),
        ({"disagg_connector_type": "p2p_nccl", "uncached_threshold": 5}, "thresholds count for"),
        (
            {
                "disagg_connector_type": "sglang",
                "routing_threshold": 5,
                "whole_model_labels": "alone",
                "static_model_labels": "prefill,decode,alone",
            },
            None,
        ),
    ],
)
def test_what_comes_to_nothing_is_said_in_the_log(
    given: dict[str, Any], said: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "kvroute.frontend"):
        Settings(**{**SPLIT, **given})
    assert len(caplog.records) == (said is not None)
    assert (said or "") in caplog.text


@pytest.mark.parametrize(
    ("wanting", "needed"),
    [
        ({}, False),
        ({"prefill_load_balancing_strategy": "kv"}, True),
        ({"decode_load_balancing_strategy": "kv"}, True),
        ({"uncached_threshold": 0}, False),
        ({"uncached_threshold": 1}, True),
        ({"routing_threshold": 5}, False),
        ({"routing_threshold": 5, "tokenizer": True}, True),
        ({"routing_threshold": 5, "tokenizer": True, "token_estimate": "chars"}, False),
        ({"tokenizer": True}, False),
        ({"disagg_connector_type": "lmcache", "decoder_registry": RECEIVERS}, True),
        ({"max_prefill_tokens": 100}, True),
    ],
)
def test_tokens_are_got_where_something_asks_for_them(
    wanting: dict[str, Any], needed: bool, tmp_path: Path
) -> None:
    from kvroute.frontend.fleet import Fleet
    from kvroute.frontend.protocols import core_router

    if wanting.get("tokenizer"):
        wanting = {**wanting, "tokenizer": tmp_path}
    fleet = Fleet(Settings(**SPLIT, **wanting), core_router)
    try:
        assert fleet.group("m").needs_tokens is needed
    finally:
        fleet.close()

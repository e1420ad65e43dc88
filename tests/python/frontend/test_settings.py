"""Configuration: lists, files, variables, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kvroute.frontend.protocols import core_router
from kvroute.frontend.settings import Settings, load_settings

MINIMAL: dict[str, Any] = {"static_backends": "http://a:1,http://b:2", "static_models": "m"}


def test_lists_run_along_the_backends() -> None:
    settings = Settings(
        static_backends="http://a:1/, http://b:2",
        static_models="m,n",
        kv_events="tcp://a:5,",
        kv_replay=["", "tcp://b:6"],
        load_events=",",
        dp_ranks="2,",
    )
    first, second = settings.backends()
    assert (first.url, first.model, first.dp_ranks) == ("http://a:1", "m", 2)
    assert (second.url, second.model, second.dp_ranks) == ("http://b:2", "n", 1)
    assert (first.kv_events, second.kv_events) == ("tcp://a:5", None)
    assert (first.kv_replay, second.kv_replay) == (None, "tcp://b:6")
    assert (first.load_events, second.load_events) == (None, None)


def test_one_model_is_every_backends() -> None:
    assert [b.model for b in Settings(**MINIMAL).backends()] == ["m", "m"]


def test_without_kv_events_no_endpoint_of_theirs_is_used() -> None:
    events = "tcp://a:5,tcp://b:5"
    settings = Settings(
        **MINIMAL, kv_events=events, kv_replay=events, load_events=events, no_kv_events=True
    )
    for backend in settings.backends():
        assert backend.kv_events is None
        assert backend.kv_replay is None
        assert backend.load_events is not None


def test_a_comma_alone_means_none_for_any_number_of_backends() -> None:
    backends = ",".join(f"http://a:{port}" for port in range(1, 5))
    settings = Settings(static_backends=backends, static_models="m", load_events=",")
    assert [b.load_events for b in settings.backends()] == [None] * 4


@pytest.mark.parametrize(
    ("given", "meant"),
    [("", ""), ("/", ""), ("//", ""), ("llm", "/llm"), ("/llm/", "/llm"), ("a/b/", "/a/b")],
)
def test_a_root_path_begins_with_a_slash_and_ends_without(given: str, meant: str) -> None:
    assert Settings(**MINIMAL, root_path=given).root_path == meant


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"static_backends": "a:1"}, r"static_backends\[0\]: expected http://HOST:PORT"),
        ({"static_backends": "http://a:1,,"}, r"static_backends\[1\]"),
        ({"static_backends": "http://a:1,http://a:1/"}, "each URL once"),
        ({"static_backends": ""}, "static_backends"),
        ({"static_models": "a,b,c"}, "one for each of 2 backends, got 3"),
        ({"static_models": "a,"}, "an empty name"),
        ({"kv_events": "tcp://a:1"}, "kv_events: expected 2 elements, got 1"),
        ({"load_events": "tcp://a:1,,"}, "load_events: expected 2 elements, got 3"),
        ({"kv_events": "a:1,b:2"}, "kv_events: expected tcp://HOST:PORT, got 'a:1'"),
        ({"dp_ranks": "0,1"}, "dp_ranks: .* at least 1, got '0'"),
        ({"dp_ranks": "x,1"}, "dp_ranks: .* at least 1, got 'x'"),
        ({"routing_logic": "best"}, "routing_logic: expected one of .*, got 'best'"),
        ({"block_size": 0}, "block_size"),
        ({"port": 70000}, "port"),
        ({"colour": "red"}, "colour"),
        (
            {"static_models": "m,n", "tokenizer": "/models/m"},
            "tokenizer: one directory serves one model, got the models m, n",
        ),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**{**MINIMAL, **wrong})


@pytest.mark.parametrize("queue", [{"queue_limit": 8}, {"queue_order": "priority"}])
def test_a_queue_that_nobody_would_wait_in_is_refused(queue: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(queue))}: expected it with max_waiting"):
        Settings(**MINIMAL, **queue)
    for threshold in ({"max_waiting": 0}, {"max_kv_usage": 0.9}, {"max_prefill_tokens": 1}):
        Settings(**MINIMAL, **queue, **threshold)
    Settings(**MINIMAL, queue_limit=0, queue_order="fcfs")


def test_the_decision_log_is_as_long_as_the_router_s_may_be() -> None:
    options = Settings(**MINIMAL, decision_log=10_000).router_options()
    core_router(16, "kv_cost", **options).close()
    with pytest.raises(ValueError, match="decision_log"):
        Settings(**MINIMAL, decision_log=10_001)


def test_a_booking_s_time_is_the_router_s() -> None:
    assert Settings(**MINIMAL).router_options() == {}
    options = Settings(**MINIMAL, reservation_ttl=3600).router_options()
    assert options == {"reservation_ttl": 3600}
    core_router(16, "kv_cost", **options).close()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "c.yaml",
            "static-backends: [http://a:1, http://b:2]\nstatic_models: m\n"
            "kv-events: [tcp://a:1, null]\nport: 9\nblock-size: 32",
        ),
        (
            "c.json",
            '{"static-backends": ["http://a:1", "http://b:2"], "static_models": ["m"],'
            ' "kv_events": ["tcp://a:1", null], "port": 9, "block_size": 32}',
        ),
    ],
)
def test_files_give_settings_that_flags_and_variables_override(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    file = tmp_path / name
    file.write_text(text)
    monkeypatch.setenv("KVROUTE_BLOCK_SIZE", "64")
    settings = load_settings({"port": 10}, file)
    assert settings.port == 10
    assert settings.block_size == 64
    assert [b.kv_events for b in settings.backends()] == ["tcp://a:1", None]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.yaml", "a: [", "expected YAML"),
        ("c.json", "{", "expected JSON"),
        ("c.yaml", "- a", "expected a mapping, got list"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ValueError, match=rf"{name}: {message}"):
        load_settings({}, file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml: No such file"):
        load_settings({}, tmp_path / "none.yaml")


def test_settings_of_lmcache_s_controller_are_left_out_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "c.json"
    file.write_text(
        '{"static-backends": "http://a:1", "static-models": "m", "port": 9,'
        ' "lmcache-worker-timeout": 30, "lmcache-controller-port": 9000}'
    )
    assert load_settings({}, file).port == 9
    (record,) = caplog.records
    assert "lmcache_controller_port, lmcache_worker_timeout are not used" in record.getMessage()

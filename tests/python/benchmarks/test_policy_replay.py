"""Policies replayed in virtual time: the same each time, and comparable request by request."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path

import bench_policy_replay
import kvroute
import pytest
from drift_requests import Conversations, Request
from kvroute.traces import generate_trace
from policy_choices import balanced, compared, every, parse
from policy_replay import BLOCK_SIZE, Replayed, World, arriving, replay

WORKERS = 3


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """More than the engines can do at once, with next turns among them."""
    trace = generate_trace(120, seed=3)
    return arriving(Conversations(trace, BLOCK_SIZE), speed=1.5)


def played(
    policy: str | Mapping[str, object],
    requests: list[Request],
    *,
    sessions: bool = False,
    seed: int = 1,
) -> Replayed:
    return replay(policy, requests, World(WORKERS, 20_000, sessions=sessions), seed)


def test_a_seed_decides_everything(requests: list[Request]) -> None:
    first, second = (played(balanced(2).policy, requests) for _ in range(2))
    assert first == second
    assert first != played(balanced(2).policy, requests, seed=2)


@pytest.mark.parametrize("sessions", [False, True])
def test_without_a_threshold_the_balanced_policy_is_kvaware(
    requests: list[Request], sessions: bool
) -> None:
    plain = played("kvaware", requests, sessions=sessions)
    assert set(plain.rules) == {"kvaware", "session" if sessions else "qps"}
    assert played(balanced(math.inf).policy, requests, sessions=sessions) == plain
    assert played("load_balanced_kvaware", requests, sessions=sessions) == plain


def test_a_threshold_is_met_by_the_engines_reports(requests: list[Request]) -> None:
    rules = [played(balanced(threshold).policy, requests).rules for threshold in (0, 2, 5)]
    shares = [decided.count("least_loaded") / len(decided) for decided in rules]
    assert shares[0] == 1
    assert shares[0] > shares[1] > shares[2]


def test_every_request_is_served_and_counted(requests: list[Request]) -> None:
    result = played("round_robin", requests)
    assert len(result.workers) == len(requests)
    assert len(result.outcome.first_token_seconds) == len(requests)
    assert min(result.outcome.first_token_seconds) > 0
    assert result.outcome.prompt_tokens == sum(len(request.prompt) for request in requests)
    assert 0 < result.hit_rate < 1
    assert result.busiest(WORKERS)[0] == 1  # in turn
    assert result.seconds >= requests[-1].arrival - requests[0].arrival


def test_arrivals_are_spread_and_then_compressed(requests: list[Request]) -> None:
    spread = arriving(requests, 2.0, 3.0)
    arrivals = [request.arrival for request in spread]
    assert arrivals == sorted(arrivals)
    assert len(set(arrivals)) == len(requests)
    before = {id(request.prompt): request.arrival for request in requests}
    assert len(before) == len(requests)
    assert all(0 <= 2 * r.arrival - before[id(r.prompt)] <= 3 for r in spread)


def test_policies_are_named_or_written_out() -> None:
    assert parse("kvaware").policy == "kvaware"
    written = parse('{"name": "load_balanced_kvaware", "imbalanced_threshold": Infinity}')
    assert written.policy == balanced(math.inf).policy
    assert written.label == "load_balanced_kvaware imbalanced_threshold=inf"
    for wrong in ("nobody", '{"name": "kvaware", "threshold": 1}', "{", '{"policy": "kvaware"}'):
        with pytest.raises(argparse.ArgumentTypeError):
            parse(wrong)


def test_every_policy_can_be_replayed() -> None:
    assert {choice.name for choice in every()} == set(kvroute.policy_names())
    assert {choice.label for choice in compared()} <= {choice.label for choice in every()}


def test_the_table_says_where_its_trace_is_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KVROUTE_TRACES", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    arguments = "--requests 20 --workers 2 --speed 1 --seed 1 2 --policies random kvaware"
    bench_policy_replay.main(arguments.split())
    printed = capsys.readouterr().out
    assert "generated" in printed
    rows = [line for line in printed.splitlines() if line.startswith(("| random", "| kvaware"))]
    assert len(rows) == 2
    assert rows[0].endswith("|  |")
    assert "qps" in rows[1]

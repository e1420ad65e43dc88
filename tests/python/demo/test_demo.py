"""The whole demo: real engines, the real frontend, a replay over HTTP, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

PATIENCE = 60.0


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Without any trace but a generated one."""
    rest = {name: value for name, value in os.environ.items() if name != "KVROUTE_TRACES"}
    return {**rest, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONUNBUFFERED": "1"}


class Demo:
    """A running `kvroute demo`."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kvroute", "demo", "--engines=2", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )

    def finish(self) -> tuple[int, str, str]:
        """Exit status and all that was written and not yet read."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err

    def read_until(self, part: str) -> str:
        """The lines up to the one that holds `part`."""
        assert self.process.stdout is not None
        return read_until(self.process.stdout, part)

    def children(self) -> dict[int, str]:
        """Process ids and command lines of the demo's processes."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_text().split("\0")
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if "kvroute.demo.tethered" in words and str(self.process.pid) in words and state != "Z":
                found[int(folder.name)] = " ".join(words)
        return found

    def wait_for_children(self, count: int) -> dict[int, str]:
        """Its processes, once there are `count`."""
        ends = time.monotonic() + PATIENCE
        while len(children := self.children()) != count:
            assert time.monotonic() < ends, f"expected {count} processes, got {children}"
            assert self.process.poll() is None or count == 0
            time.sleep(0.02)
        return children


def read_until(lines: IO[str], part: str) -> str:
    seen = []
    for line in lines:
        seen.append(line)
        if part in line:
            return "".join(seen)
    pytest.fail(f"{part!r} never came:\n{''.join(seen)}")


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Any]:
    started: list[Demo] = []

    def begin(*arguments: str) -> Demo:
        started.append(Demo(environment, *arguments))
        return started[-1]

    yield begin
    for demo in started:
        demo.process.kill()
        demo.process.communicate(timeout=PATIENCE)


def conversations(path: Path) -> None:
    """Nine conversations of four turns, each of which adds three blocks; two engines in turn get
    each conversation's turns alternately."""
    fresh = 1
    held = [[0] for _ in range(9)]
    with path.open("w") as lines:
        for turn in range(4):
            for conversation in range(9):
                ids = held[conversation]
                ids += range(fresh, fresh + 3)
                fresh += 3
                record = {
                    "timestamp": 3000 * turn + 100 * conversation,
                    "input_length": 512 * len(ids),
                    "output_length": 16,
                    "hash_ids": ids,
                }
                lines.write(json.dumps(record) + "\n")


def test_routing_by_cache_beats_round_robin_and_nothing_is_left(start: Any, tmp_path: Path) -> None:
    trace, report = tmp_path / "trace.jsonl", tmp_path / "report.json"
    conversations(trace)
    demo = start(
        f"--trace={trace}", f"--json={report}", "--requests=36", "--compression=3",
        "--length-scale=0.25",
    )  # fmt: skip
    status, out, err = demo.finish()
    assert status == 0, out + err
    assert f"{trace} (given file)" in out
    assert "compressed 3 times" in out
    assert "round_robin: 36 of 36 requests" in out
    assert not demo.children()

    content = json.loads(report.read_text())
    round_robin, kv_cost, kv_delay = content["policies"]
    for result in (round_robin, kv_cost, kv_delay):
        assert result["requests"] == 36
        assert result["failures"] == 0
        assert sum(result["requests_per_worker"]) == 36
        assert result["unattributed"] == 0
        assert 0 < result["decision_seconds"]["p50"] <= result["decision_seconds"]["p99"] < 0.1
        assert result["prompt_tokens"] == content["trace"]["prompt_tokens"]
        assert result["hit_rate"] <= content["trace"]["infinite_cache_hit_rate"] + 1e-9
    assert round_robin["requests_per_worker"] == [18, 18]
    assert kv_cost["hit_rate"] > 1.3 * round_robin["hit_rate"] > 0
    assert kv_cost["hit_rate"] > 0.8 * content["trace"]["infinite_cache_hit_rate"]
    assert kv_delay["hit_rate"] > 1.1 * round_robin["hit_rate"]


def test_the_generated_trace_is_said_to_be_one(start: Any) -> None:
    status, out, err = start("--requests=12", "--policies=kv_cost", "--compression=20").finish()
    assert status == 0, out + err
    assert "generated, of the conversation trace's statistics (seed 0)" in out


def test_a_policy_that_does_not_exist_is_the_frontends_error(start: Any) -> None:
    status, _, err = start("--requests=4", "--policies=coin_toss").finish()
    assert status == 1
    assert "kvroute demo: frontend (kvroute serve) ended with status 2" in err
    assert "routing_logic: expected one of" in err


def test_failed_requests_make_it_fail(start: Any) -> None:
    status, out, _ = start("--requests=12", "--policies=kv_cost", "--num-blocks=64").finish()
    assert status == 1
    assert "kv_cost: failed: status 400" in out


def test_a_trace_that_is_not_there_is_an_error(start: Any) -> None:
    status, _, err = start("--trace=/nowhere/trace.jsonl").finish()
    assert status == 1
    assert err == "kvroute demo: /nowhere/trace.jsonl: no such file\n"


def test_the_deadline_ends_everything(start: Any) -> None:
    demo = start("--requests=200", "--compression=0.5", "--deadline=6")
    status, _, err = demo.finish()
    assert status == 1
    assert "not finished within 6 s, given up" in err
    assert not demo.children()


def test_an_engine_that_dies_ends_the_demo_and_is_named(start: Any) -> None:
    demo = start("--requests=200", "--compression=0.5")
    children = demo.wait_for_children(3)
    engine = next(pid for pid, command in sorted(children.items()) if " mock " in command)
    demo.read_until("hit rate bound")
    os.kill(engine, signal.SIGKILL)
    status, _, err = demo.finish()
    assert status == 1
    assert "(kvroute mock) ended with status" in err
    assert not demo.children()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_it(start: Any, number: signal.Signals) -> None:
    demo = start("--requests=200", "--compression=0.5")
    demo.wait_for_children(3)
    demo.process.send_signal(number)
    status, _, _ = demo.finish()
    assert status == (-number if number == signal.SIGKILL else 128 + number)
    demo.wait_for_children(0)


def test_keep_serves_until_interrupted_and_the_second_answer_is_cached(start: Any) -> None:
    demo = start("--requests=6", "--policies=round_robin,kv_cost", "--compression=20", "--keep")
    out = demo.read_until("Ctrl-C ends it.")
    line = next(line for line in out.splitlines() if line.startswith("curl -N http://"))
    url, _, body = line.removeprefix("curl -N ").partition(" -H ")
    body = body.split(" -d '")[1].rstrip("'")
    assert cached_tokens(url, body) == 0
    second = cached_tokens(url, body)
    assert second > 0
    assert second % 16 == 0

    assert len(demo.children()) == 3
    demo.process.send_signal(signal.SIGINT)
    status, _, err = demo.finish()
    assert status == 0, err
    assert not demo.children()


def cached_tokens(url: str, body: str) -> int:
    """Streams the chat completion `body` and gives its usage's cached tokens."""
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url, data=body.encode(), headers=headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        text = answer.read().decode()
    events = [event.removeprefix("data: ") for event in text.split("\n\n") if event]
    assert events[-1] == "[DONE]"
    usage = json.loads(events[-2])["usage"]
    assert usage["completion_tokens"] > 0
    details = usage["prompt_tokens_details"] or {}
    return int(details.get("cached_tokens") or 0)

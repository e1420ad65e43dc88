"""A simulated engine as a process: ready line, signals, failures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

import pytest
from kvroute.engines import SimulatedEngineProcess
from kvroute.engines.errors import ProcessFailedError


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_says_where_it_is_and_serves_there() -> None:
    with SimulatedEngineProcess(model="m", block_size=32, num_blocks=100, speed=100) as engine:
        assert engine.ready["event"] == "ready"
        assert (engine.ready["model"], engine.ready["block_size"]) == ("m", 32)
        assert engine.ready["num_blocks"] == 100
        for endpoint in (engine.kv_events, engine.kv_replay, engine.load_events):
            assert endpoint is not None
            assert endpoint.startswith("tcp://127.0.0.1:")
            assert not endpoint.endswith(":0")
        request = urllib.request.Request(
            f"{engine.http_url}/v1/completions",
            data=json.dumps({"prompt": "hello", "max_tokens": 3}).encode(),
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            assert json.load(response)["usage"]["completion_tokens"] == 3
        pid = engine.pid
    assert not is_alive(pid)


def test_what_was_not_asked_for_is_not_there() -> None:
    with SimulatedEngineProcess(kv_events=None, load_events=None) as engine:
        assert (engine.kv_events, engine.kv_replay, engine.load_events) == (None, None, None)


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_also_mid_stream(name: signal.Signals) -> None:
    with SimulatedEngineProcess(speed=1) as engine:
        request = urllib.request.Request(
            f"{engine.http_url}/v1/completions",
            data=json.dumps({"prompt": "a", "max_tokens": 5000, "stream": True}).encode(),
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            assert response.readline().startswith(b"data: ")
            began = time.monotonic()
            os.kill(engine.pid, name)
            rest = response.read()
            status = engine.stop()
            took = time.monotonic() - began
    assert b"stopped" in rest
    assert status == 0
    assert took < 45  # the stream would go on for a minute


def test_it_is_ended_when_its_user_fails() -> None:
    def fail() -> None:
        with engine:
            raise RuntimeError("on purpose")

    engine = SimulatedEngineProcess()
    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    assert not is_alive(engine.pid)


def test_a_kill_leaves_nothing_to_stop() -> None:
    with SimulatedEngineProcess() as engine:
        engine.kill()
        assert not is_alive(engine.pid)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"block_size": 0}, "block_size"),
        ({"speed": 0}, "speed"),
        ({"event_format": "xml"}, "event-format"),
        ({"kv_events": "tcp://nowhere.invalid:1"}, "nowhere.invalid"),
        ({"tokenizer": "/no/such/directory"}, "tokenizer: /no/such/directory: expected"),
    ],
)
def test_a_wrong_setting_ends_it_at_once_and_is_named(
    settings: dict[str, object], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ProcessFailedError, match="ended with status 2"):
        SimulatedEngineProcess(**settings).start()
    complaint = capfd.readouterr().err
    assert said in complaint
    assert "Traceback" not in complaint


def test_replay_needs_events() -> None:
    command = [sys.executable, "-m", "kvroute", "mock", "--kv-replay", "tcp://127.0.0.1:0"]
    ended = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert b"--kv-events" in ended.stderr

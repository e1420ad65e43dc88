"""ping.sh and perf.sh against the running example."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from example_harness import MODEL, STANDALONE, StandaloneExample

pytestmark = pytest.mark.timeout(120)


def run_script(
    name: str, example: StandaloneExample, **settings: str
) -> subprocess.CompletedProcess[str]:
    host, _, port = example.url.removeprefix("http://").rpartition(":")
    environment = {**os.environ, "HOST": host, "PORT": port, "PYTHON": sys.executable, **settings}
    return subprocess.run(
        [str(STANDALONE / name)], env=environment, capture_output=True, text=True, timeout=60
    )


def test_ping_gets_a_whole_stream(standalone: StandaloneExample) -> None:
    result = run_script("ping.sh", standalone, MODEL=MODEL)
    assert result.returncode == 0, result.stderr
    assert "200 OK" in result.stdout
    assert result.stdout.rstrip().endswith("data: [DONE]")


def test_ping_fails_where_the_model_is_unknown(standalone: StandaloneExample) -> None:
    assert run_script("ping.sh", standalone, MODEL="another").returncode != 0


def test_perf_reports_a_bounded_load(standalone: StandaloneExample) -> None:
    result = run_script(
        "perf.sh", standalone, REQUESTS="20", CONCURRENCY="5", ISL="600", OSL="10", PREFIXES="3"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"requests +20 in [\d.]+ s, 0 failed", result.stdout)
    tokens = re.search(r"tokens +(\d+) in, ([\d.]+)% of them cached; 10 out", result.stdout)
    assert tokens is not None, result.stdout
    assert 570 <= int(tokens[1]) <= 630
    assert float(tokens[2]) > 20
    for line in ("TTFT", "ITL", "throughput", "per worker"):
        assert line in result.stdout


def test_perf_says_when_requests_fail(standalone: StandaloneExample) -> None:
    result = run_script("perf.sh", standalone, REQUESTS="2", ISL="50", OSL="100000000")
    assert result.returncode == 1
    assert "2 failed" in result.stdout
    assert "status 400" in result.stdout


def test_perf_says_when_nobody_serves(standalone: StandaloneExample) -> None:
    result = run_script("perf.sh", standalone, PORT="9")
    assert result.returncode == 1
    assert "does not serve" in result.stderr


def test_the_readme_names_every_setting_of_the_scripts() -> None:
    readme = (STANDALONE / "README.md").read_text(encoding="utf-8")
    for script in ("ping.sh", "perf.sh"):
        settings = set(re.findall(r"\$\{([A-Z]+):-", (STANDALONE / script).read_text()))
        assert settings
        assert {name for name in settings if not re.search(rf"\b{name}\b", readme)} == set()


@pytest.mark.parametrize("program", ["api.py", "router.py"])
def test_the_readme_names_every_flag(program: str) -> None:
    result = subprocess.run(
        [sys.executable, program, "--help"],
        cwd=STANDALONE,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    readme = (STANDALONE / "README.md").read_text(encoding="utf-8")
    flags = set(re.findall(r"--[a-z-]+", result.stdout)) - {"--help"}
    assert {flag for flag in flags if not re.search(rf"{flag}\b", readme)} == set()

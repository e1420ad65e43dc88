"""Dynamo's Python package in an environment of its own, and the benchmark that needs it there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / "build" / "peers" / "venv"
PYTHON = ENVIRONMENT / "bin" / "python"
# kvroute as `make install` put it; the peer's environment takes it from there.
OUR_ENVIRONMENT = ROOT / ".venv"
PACKAGE = "ai-dynamo-runtime==1.6.1"
BENCHMARK = ROOT / "benchmarks" / "python" / "bench_peer_index.py"
INSTALL_SECONDS = 600
RUN_SECONDS = 300


def _has_peer() -> bool:
    if not PYTHON.exists():
        return False
    program = [str(PYTHON), "-c", "import dynamo._core"]
    return subprocess.run(program, capture_output=True, timeout=60).returncode == 0


def _install() -> str | None:
    """What went wrong, if anything did."""
    if _has_peer():
        return None
    ours = OUR_ENVIRONMENT / "bin" / "python"
    commands: list[list[str | Path]] = [
        [ours, "-m", "venv", "--clear", ENVIRONMENT],
        [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE],
    ]
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode != 0:
            return (done.stderr.strip().splitlines() or ["no message"])[-1]
    return None if _has_peer() else "it cannot be imported"


def python_table(quick: bool) -> str:
    """Both from Python as Markdown; or why there are no figures."""
    if not list(OUR_ENVIRONMENT.glob("lib/python3*/site-packages/kvroute")):
        return "kvroute is not installed in .venv (make install): nothing measured from Python"
    problem = _install()
    if problem is not None:
        return f"{PACKAGE} cannot be had ({problem}): nothing measured from Python"
    packages = next(iter(OUR_ENVIRONMENT.glob("lib/python3*/site-packages")))
    environment = {**os.environ, "PYTHONPATH": str(packages), "DYN_LOG": "error"}
    command: list[str | Path] = [PYTHON, BENCHMARK, *(["--quick"] if quick else [])]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS
    )
    if done.returncode != 0:
        sys.exit(f"{BENCHMARK.name} failed:\n{done.stderr}")
    return done.stdout.rstrip()

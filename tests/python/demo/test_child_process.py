"""Children that are ready, that are not, that end, and that must die with their parent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from kvroute.demo.child_process import ChildError, ChildProcess

READY = 'print(\'{"event": "ready", "http": "http://x", "pid": 1}\', flush=True)'


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Children run the Python text that is their only argument, still tethered."""
    runner = tmp_path / "runner.py"
    runner.write_text(
        textwrap.dedent(
            """
            import sys
            from kvroute.demo.tethered import tether
            assert tether(int(sys.argv[3]))
            exec(sys.argv[4])
            """
        )
    )
    shim = tmp_path / "python"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} {runner} "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(shim))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def gone(pid: int, seconds: float = 60.0) -> bool:
    ends = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < ends:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return not alive(pid)


@pytest.mark.usefixtures("python")
async def test_gives_the_ready_line_and_ends_the_child() -> None:
    async with ChildProcess("engine", [f"{READY}; import time; time.sleep(60)"]) as child:
        assert await child.ready(60) == {"event": "ready", "http": "http://x", "pid": 1}
        pid = child.pid
        assert alive(pid)
        assert os.getpgid(pid) == pid
    assert not alive(pid)
    assert child.returncode == -signal.SIGTERM


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise SystemExit('no port')", "engine .* ended with status 1:\n  no port"),
        ("print('hello', flush=True)", "printed no ready line but b'hello'"),
        ("print('[1]', flush=True)", r"printed no ready line but b'\[1\]'"),
        ("print('x' * 100_000, flush=True)", "printed no ready line but b'xxx"),
        ("", "ended with status 0:\n  .it wrote nothing"),
        ("import time; time.sleep(60)", "was not ready within 0.3 s"),
    ],
)
async def test_a_child_that_does_not_become_ready_is_explained(text: str, message: str) -> None:
    timeout = 0.3 if "sleep" in text else 60.0
    async with ChildProcess("engine", [text]) as child:
        with pytest.raises(ChildError, match=message):
            await child.ready(timeout)


@pytest.mark.usefixtures("python")
async def test_a_child_that_ignores_sigterm_is_killed() -> None:
    text = f"import signal, time; signal.signal(15, signal.SIG_IGN); {READY}; time.sleep(60)"
    child = ChildProcess("engine", [text])
    await child.start()
    await child.ready(60)
    await child.stop(grace=0.1)
    assert child.returncode == -signal.SIGKILL


@pytest.mark.usefixtures("python")
async def test_the_childs_own_children_die_too() -> None:
    text = (
        "import subprocess, sys, time, json\n"
        "p = subprocess.Popen(['sleep', '60'])\n"
        "print(json.dumps({'event': 'ready', 'grandchild': p.pid}), flush=True)\n"
        "time.sleep(60)"
    )
    async with ChildProcess("engine", [text]) as child:
        grandchild = (await child.ready(60))["grandchild"]
        assert alive(grandchild)
    assert await gone(grandchild)


@pytest.mark.usefixtures("python")
async def test_much_output_neither_blocks_the_child_nor_grows_us() -> None:
    text = f"{READY}\nfor _ in range(200): print('y' * 10_000, flush=True)\nraise SystemExit('end')"
    async with ChildProcess("engine", [text]) as child:
        await child.ready(60)
        error = await asyncio.wait_for(child.exited(), 60)
        assert "ended with status 1:\n  end" in str(error)
        assert max(len(tail) for tail in child._tails.values()) <= 16_384


@pytest.mark.usefixtures("python")
async def test_kvroute_variables_do_not_reach_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVROUTE_PORT", "1")
    text = (
        "import os, json; names = [n for n in os.environ if n.startswith('KVROUTE_')]\n"
        "print(json.dumps({'event': 'ready', 'names': names}), flush=True)"
    )
    async with ChildProcess("engine", [text]) as child:
        assert (await child.ready(60))["names"] == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has PR_SET_PDEATHSIG")
async def test_a_child_dies_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = tmp_path / "parent.py"
    parent.write_text(
        textwrap.dedent(
            """
            import os, subprocess, sys, time
            text = (
                "import sys, time; from kvroute.demo.tethered import tether;"
                "assert tether(int(sys.argv[1])); print('tied', flush=True); time.sleep(60)"
            )
            child = subprocess.Popen(
                [sys.executable, "-c", text, str(os.getpid())],
                stdout=subprocess.PIPE, start_new_session=True,
            )
            child.stdout.readline()
            print(child.pid, flush=True)
            time.sleep(60)
            """
        )
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(parent), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        child = int(await asyncio.wait_for(process.stdout.readline(), 60))
        assert alive(child)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    assert await gone(child)


def test_a_parent_that_has_ended_is_noticed() -> None:
    text = (
        "import os; from kvroute.demo.tethered import tether;"
        "assert tether(os.getppid()); assert not tether(1 << 22)"
    )
    subprocess.run([sys.executable, "-c", text], check=True, timeout=60)

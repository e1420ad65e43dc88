"""The `kvroute` command itself: version, help, commands that cannot be imported."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from kvroute import __version__


def kvroute(
    *arguments: str, before: str = "", cwd: Path | None = None, columns: int = 100
) -> tuple[int, str, str]:
    """Runs the command in a fresh interpreter after the Python text `before`."""
    script = textwrap.dedent(before) + "\nfrom kvroute.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env={**os.environ, "COLUMNS": str(columns), "NO_COLOR": "1"},
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def without(package: str) -> str:
    """Python text after which `package` cannot be imported."""
    return f"import sys; sys.modules[{package!r}] = None"


def test_prints_the_version() -> None:
    assert kvroute("--version") == (0, f"kvroute {__version__}\n", "")


def test_help_lists_every_command() -> None:
    status, out, err = kvroute("--help")
    assert (status, err) == (0, "")
    for name in ("serve", "mock", "demo", "traces"):
        assert f" {name} " in out
    assert "Not available" not in out


@pytest.mark.parametrize("name", ["serve", "mock", "demo", "traces"])
def test_every_command_has_help_of_its_own(name: str) -> None:
    status, out, err = kvroute(name, "--help")
    assert (status, err) == (0, "")
    assert f"kvroute {name}" in out


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (("serve",), ("[info]", "[kv_cost]", "[inf]", "[none]", "[0.0.0.0]")),
        (("traces", "download"), ("[default: its public source]",)),
        (("demo",), ("[default: the conversation trace",)),
    ],
)
def test_help_shows_defaults_in_brackets(command: tuple[str, ...], shown: tuple[str, ...]) -> None:
    status, out, err = kvroute(*command, "--help", columns=200)
    assert (status, err) == (0, "")
    for text in shown:
        assert text in out


def test_python_m_kvroute_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kvroute", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("kvroute ")


def test_no_arguments_show_the_help_and_an_unknown_command_is_an_error() -> None:
    assert "Usage: kvroute" in "".join(kvroute()[1:])
    status, _, err = kvroute("simulated")
    assert status == 2
    assert "simulated" in err


def test_without_typer_it_names_the_extra() -> None:
    status, out, err = kvroute("--version", before=without("typer"))
    assert (status, out) == (2, "")
    assert "'typer'" in err
    assert "pip install 'kvroute[serve]'" in err


def test_a_package_that_a_command_misses_names_the_extra() -> None:
    status, _, err = kvroute("demo", "--requests", "1", before=without("aiohttp"))
    assert status == 2
    assert err.endswith(
        "'aiohttp', which is not installed; install it with: pip install 'kvroute[serve]'\n"
    )
    assert "Traceback" not in err


def test_other_import_errors_are_not_hidden() -> None:
    status, _, err = kvroute("traces", "info", "x", before=without("kvroute.traces"))
    assert status == 1
    assert "Traceback" in err
    assert "kvroute.traces" in err


def test_a_broken_command_leaves_the_others_usable(tmp_path: Path) -> None:
    broken = without("kvroute.cli.mock")
    status, out, _ = kvroute("--help", before=broken)
    assert status == 0
    assert "Not available: import of kvroute.cli.mock halted" in out
    assert kvroute("traces", "info", str(tmp_path / "none"), before=broken)[0] == 1
    status, _, err = kvroute("mock", "--port", "0", before=broken)
    assert status == 1
    assert "kvroute.cli.mock halted" in err


def test_importing_the_command_line_imports_no_command() -> None:
    check = "import sys, kvroute.cli.main as m; print([n for n in sys.modules if n in {names}])"
    names = {"kvroute.cli.serve", "kvroute.cli.demo", "kvroute.traces", "aiohttp", "fastapi"}
    done = subprocess.run(
        [sys.executable, "-c", check.replace("{names}", repr(names))],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "[]\n"

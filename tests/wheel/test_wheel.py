"""The wheels in wheelhouse/, each in a clean environment of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

ROOT = Path(__file__).resolve().parents[2]
CLIENT = Path(__file__).with_name("clean_environment.py")
TIMEOUT = 60.0

# The C library's family: what every Linux process has, or gets from the same package.
C_LIBRARY = re.compile(r"(ld-linux[-\w]*|lib(c|m|pthread|dl|rt)(-[\d.]+)?)\.so[.\d]*$")


def interpreter_of(wheel: Path) -> str | None:
    """A CPython of the wheel's version: this one, one on the PATH, or one of pyenv's."""
    tag = re.search(r"-cp3(\d+)-", wheel.name)
    assert tag, wheel.name
    version = f"3.{tag[1]}"
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    on_path = [shutil.which(f"python{version}")]
    pyenv = Path.home() / ".pyenv" / "versions"
    candidates = [*on_path, *map(str, pyenv.glob(f"{version}.*/bin/python{version}"))]
    for candidate in filter(None, candidates):
        if subprocess.run([candidate, "-c", ""], capture_output=True, timeout=TIMEOUT).returncode:
            continue
        return candidate
    return None


def current_wheels() -> list[Path]:
    """The wheels of the version that pyproject.toml states whose interpreter is here."""
    stated = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert stated
    wheels = sorted((ROOT / "wheelhouse").glob(f"kvroute-{stated[1]}-*.whl"))
    return [wheel for wheel in wheels if interpreter_of(wheel)]


WHEELS = current_wheels()


@pytest.fixture(scope="module", params=WHEELS, ids=lambda wheel: wheel.name.split("-")[2])
def wheel(request: pytest.FixtureRequest) -> Path:
    path = request.param
    assert isinstance(path, Path)
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment in which nothing but the wheel is installed."""
    home = tmp_path_factory.mktemp("clean")
    base = interpreter_of(wheel)
    assert base
    if base == sys.executable:
        venv.create(home, with_pip=False, symlinks=True)
    else:
        create = [base, "-m", "venv", "--without-pip", str(home)]
        subprocess.run(create, check=True, timeout=TIMEOUT)
    python = home / "bin" / "python"
    # Without an index, a dependency that the wheel should not have fails the installation.
    install = ["--python", str(python), "install", "--no-index", "--quiet", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True, timeout=TIMEOUT)
    return python


def clean_environment() -> dict[str, str]:
    """Ours, without what could lead Python or the dynamic linker elsewhere."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LD_"))}


@pytest.fixture
def publisher() -> Iterator[tuple[zmq.Socket[bytes], str]]:
    """A socket that publishes, and tells when somebody subscribes."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, int(TIMEOUT * 1000))
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        yield socket, f"tcp://127.0.0.1:{port}"


def stored_event() -> list[bytes]:
    """vLLM's message that three blocks of sixteen tokens are cached: topic, number, payload."""
    stored = ["BlockStored", [101, 102, 103], None, list(range(48)), 16, None, "GPU"]
    return [b"", (0).to_bytes(8, "big"), msgpack.packb([0.0, [stored], 0])]


@pytest.fixture
def report(
    python: Path, publisher: tuple[zmq.Socket[bytes], str], tmp_path: Path
) -> dict[str, Any]:
    """What a process in the clean environment did and saw."""
    socket, endpoint = publisher
    process = subprocess.Popen(
        [python, "-I", CLIENT, endpoint],
        cwd=tmp_path,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert socket.recv() == b"\x01"  # its subscription to everything
        socket.send_multipart(stored_event())
        output, errors = process.communicate(timeout=TIMEOUT)
    except BaseException:
        process.kill()
        print(*process.communicate(), sep="\n")
        raise
    assert process.returncode == 0, errors
    result: dict[str, Any] = json.loads(output)
    return result


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("libc.so.6", True),
        ("libm-2.36.so", True),
        ("ld-linux-x86-64.so.2", True),
        ("libcrypto.so.3", False),
        ("libmd.so.0", False),
        ("libstdc++.so.6", False),
        ("libgcc_s.so.1", False),
    ],
)
def test_the_c_library_is_told_from_others(name: str, expected: bool) -> None:
    assert bool(C_LIBRARY.match(name)) == expected


def test_there_is_a_wheel_for_this_interpreter() -> None:
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert any(f"-{tag}-" in wheel.name and "manylinux" in wheel.name for wheel in WHEELS)


def test_it_selects_and_takes_in_events_and_needs_nothing_else(
    report: dict[str, Any], python: Path
) -> None:
    home = python.parents[1]
    assert Path(report["package"]).is_relative_to(home)
    assert report["first"] == ["cold", 0]
    assert report["choice"] == ["warm", 48, 0]
    refusals = ["UnknownWorker", "InvalidArgument", "InvalidArgument", "NoEligibleWorker"]
    assert report["raised"] == refusals

    own = ["-I", "-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"]
    library = subprocess.check_output([python, *own], text=True, timeout=TIMEOUT).strip()
    foreign = [
        path
        for path in report["added"]
        if not Path(path).is_relative_to(home)
        and not Path(path).is_relative_to(library)
        and not C_LIBRARY.match(Path(path).name)
    ]
    assert foreign == []
    assert any(Path(path).name.startswith("_core.") for path in report["added"])


def test_it_exports_nothing_but_its_entry(python: Path) -> None:
    (extension,) = python.parents[1].rglob("_core.*.so")
    symbols = ["nm", "--dynamic", "--defined-only", "--format=just-symbols", str(extension)]
    assert subprocess.check_output(symbols, text=True, timeout=TIMEOUT).split() == ["PyInit__core"]


def test_its_command_says_what_to_install(python: Path) -> None:
    command = [python.with_name("kvroute"), "--help"]
    run = subprocess.run(
        command, capture_output=True, text=True, env=clean_environment(), timeout=TIMEOUT
    )
    assert run.returncode != 0
    assert "pip install 'kvroute[serve]'" in run.stdout + run.stderr


def test_it_holds_types_and_licences(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {entry.filename for entry in archive.infolist() if not entry.is_dir()}
    assert {"kvroute/_core.pyi", "kvroute/py.typed"} <= names
    licences = {name.split(".dist-info/licenses/")[1] for name in names if "/licenses/" in name}
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "LICENSES").iterdir()}
    assert licences == {"LICENSE", *ours}
    unexpected = {n for n in names if n.split("/")[0] not in {"kvroute"} and ".dist-info/" not in n}
    assert not {name for name in unexpected if not name.startswith("kvroute.libs/")}

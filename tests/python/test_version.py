"""One version, stated in pyproject.toml alone."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import kvroute

ROOT = Path(__file__).resolve().parents[2]


def stated_version() -> str:
    match = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert match
    return match[1]


def test_python_metadata_and_native_core_have_the_stated_version() -> None:
    assert metadata.version("kvroute") == stated_version()
    assert kvroute.__version__ == stated_version()
    assert kvroute.build_info["version"] == stated_version()


def test_no_other_build_file_states_a_version_of_kvroute() -> None:
    stated = re.escape(stated_version())
    for name in ("CMakeLists.txt", "cmake/Version.cmake", "python/kvroute/__init__.py"):
        assert not re.search(rf"(?<![\d.]){stated}(?![\d.])", (ROOT / name).read_text()), name

"""The layers of the C++ core and of the Python package include only what they may."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CPP = ROOT / "cpp"
PYTHON = ROOT / "python" / "kvroute"

# What each layer of the core may include besides itself.
CORE_LAYERS: dict[str, set[str]] = {
    "base": set(),
    "hash": {"base"},
    "index": {"hash", "base"},
    "load": {"hash", "base"},
    "policy": {"index", "load", "hash", "base"},
    "events": {"index", "load", "hash", "base"},
    "router": {"policy", "events", "index", "load", "hash", "base"},
}

# What a public header must not name: its users need none of these libraries.
PRIVATE_LIBRARIES = ("absl/", "tsl/", "zmq", "msgpack", "xxhash", "pybind11/", "Python.h")

# What each part of the Python package may import besides itself and the native core.
# The demo's child processes are commands of the command line.
PYTHON_PARTS: dict[str, set[str]] = {
    "admission": set(),
    "engines": {"tokenization"},
    "tokenization": set(),
    "compat": set(),
    "traces": set(),
    "disagg": set(),
    "frontend": {"admission", "tokenization", "disagg"},
    "ray_serve": {"tokenization"},
    "demo": {"traces", "cli"},
    "cli": {"engines", "tokenization", "traces", "frontend", "demo"},
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def sources(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix in {".h", ".cc", ".inc"})


def includes(source: str) -> list[str]:
    """The included paths, comments left out."""
    code = re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL)
    return [path for _, path in INCLUDE.findall(code)]


def layer_of(path: str) -> str | None:
    """The core layer that an include path belongs to; None for other libraries."""
    first, _, rest = path.removeprefix("kvroute/").partition("/")
    return first if rest and first in CORE_LAYERS else None


def core_violations(layer: str, source: str, *, public: bool) -> list[str]:
    """What a file of `layer` includes and may not."""
    found = []
    for path in includes(source):
        target = layer_of(path)
        if path.startswith("kvroute/") and target is None:
            found.append(f"{path}: not in a layer")
        elif target not in {None, layer, *CORE_LAYERS[layer]}:
            found.append(f"{path}: {layer} may include {sorted(CORE_LAYERS[layer])} only")
        elif public and target is not None and not path.startswith("kvroute/"):
            found.append(f"{path}: a private header in a public one")
        elif path.startswith(("pybind11/", "Python.h")):
            found.append(f"{path}: the core knows no Python")
        elif public and path.startswith(PRIVATE_LIBRARIES):
            found.append(f"{path}: public headers use the standard library's types only")
    return found


def imports(source: str, module: str) -> Iterator[str]:
    """The modules that `source` names in imports, also inside functions; `module` is its own."""
    package = module.split(".")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level]) if node.level else ""
            origin = ".".join(filter(None, [base, node.module or ""]))
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def python_violations(part: str, source: str, module: str) -> list[str]:
    """The other parts of the package that a file of `part` imports and may not."""
    named = {name.split(".")[1] for name in imports(source, module) if name.startswith("kvroute.")}
    return sorted((named & PYTHON_PARTS.keys()) - {part} - PYTHON_PARTS[part])


@pytest.mark.parametrize("layer", CORE_LAYERS)
def test_core_layer_includes_only_what_it_may(layer: str) -> None:
    public = sources(CPP / "include" / "kvroute" / layer)
    private = sources(CPP / "src" / layer)
    assert public, f"no headers of {layer}"
    for path in [*public, *private]:
        wrong = core_violations(layer, path.read_text(), public=path in public)
        assert not wrong, f"{path.relative_to(ROOT)}: {wrong}"


def test_every_core_file_lies_in_a_layer() -> None:
    for folder in (CPP / "include" / "kvroute", CPP / "src"):
        for path in sources(folder):
            assert path.relative_to(folder).parts[0] in CORE_LAYERS, path.relative_to(ROOT)


def test_bindings_include_public_headers_only() -> None:
    files = sources(CPP / "bindings")
    own = {path.name for path in files}
    for path in files:
        for name in includes(path.read_text()):
            public = name.startswith("kvroute/") and (CPP / "include" / name).exists()
            foreign = "/" not in name or name.startswith(("pybind11/", "sys/"))
            assert public or name in own or foreign, f"{path.relative_to(ROOT)}: {name}"


@pytest.mark.parametrize("part", PYTHON_PARTS)
def test_python_part_imports_only_what_it_may(part: str) -> None:
    files = sorted((PYTHON / part).rglob("*.py"))
    assert files, f"no modules of {part}"
    for path in files:
        module = ".".join(path.relative_to(ROOT / "python").with_suffix("").parts)
        wrong = python_violations(part, path.read_text(), module)
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_every_python_package_has_a_rule() -> None:
    packages = {path.parent.name for path in PYTHON.glob("*/__init__.py")}
    assert packages <= PYTHON_PARTS.keys()


@pytest.mark.parametrize(
    ("layer", "line", "public"),
    [
        ("hash", '#include "kvroute/index/prefix_tree.h"', False),
        ("load", '#include "index/tree_core.h"', False),
        ("policy", '# include "kvroute/events/event_sink.h"', True),
        ("index", '#include "index/tree_core.h"', True),
        ("index", "#include <absl/container/flat_hash_map.h>", True),
        ("events", "#include <msgpack.hpp>", True),
        ("router", "#include <pybind11/pybind11.h>", False),
        ("base", '#include "kvroute/elsewhere.h"', False),
    ],
)
def test_a_forbidden_include_is_found(layer: str, line: str, public: bool) -> None:
    assert core_violations(layer, f"#pragma once\n{line}\n", public=public)


@pytest.mark.parametrize(
    "line",
    [
        "from kvroute.frontend import app",
        "import kvroute.cli.main",
        "from kvroute import frontend",
        "def f():\n    from ..frontend.app import build",
    ],
)
def test_a_forbidden_import_is_found(line: str) -> None:
    assert python_violations("engines", line, "kvroute.engines.server")

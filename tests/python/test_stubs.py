"""The type stub of the native extension says what the extension is."""

from __future__ import annotations

import ast
import builtins
import collections.abc
from collections.abc import Iterator, Mapping
from pathlib import Path

import kvroute
import pytest
from kvroute import _core

ROOT = Path(__file__).resolve().parents[2]
STUB = ast.parse((ROOT / "python" / "kvroute" / "_core.pyi").read_text())
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}
FUNCTIONS = {node.name: node for node in STUB.body if isinstance(node, ast.FunctionDef)}

IN_PYTHON = {"Features", "PythonPolicy"}  # public names that are no part of the extension

Parameter = tuple[str, str, object]  # kind, name, default


def is_alias(node: ast.AnnAssign) -> bool:
    return ast.unparse(node.annotation) == "TypeAlias"


def constants() -> Iterator[str]:
    """The module's names that are neither functions nor classes nor for the type checker alone."""
    for node in STUB.body:
        if isinstance(node, ast.AnnAssign) and not is_alias(node):
            assert isinstance(node.target, ast.Name)
            yield node.target.id


def decorators(node: ast.FunctionDef | ast.ClassDef) -> set[str]:
    return {ast.unparse(decorator) for decorator in node.decorator_list}


def methods(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    return {child.name: child for child in node.body if isinstance(child, ast.FunctionDef)}


def parameters(node: ast.FunctionDef) -> list[Parameter]:
    """Kind, name and default of each parameter; that a parameter is positional-only is no part of
    a comparison with pybind11's signatures, which leave it out for operators."""
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    required = [None] * (len(positional) - len(arguments.defaults))
    found: list[Parameter] = []
    for kind, names, defaults in (
        ("positional", positional, [*required, *arguments.defaults]),
        ("keyword", arguments.kwonlyargs, arguments.kw_defaults),
    ):
        for name, default in zip(names, defaults, strict=True):
            value = "required" if default is None else ast.literal_eval(default)
            found.append((kind, name.arg, value))
    return found


def native_signature(function: object) -> ast.FunctionDef:
    """The signature that pybind11 writes as the first line of a docstring."""
    line = (function.__doc__ or "").partition("\n")[0]
    node = ast.parse(f"def {line}: ...").body[0]
    assert isinstance(node, ast.FunctionDef), line
    return node


def differences(stub: ast.FunctionDef, native: ast.FunctionDef) -> list[Parameter]:
    """Parameters that only one of the two has; an operator's names do not count."""
    ours, theirs = parameters(stub), parameters(native)
    if stub.name.startswith("__") and stub.name != "__init__":
        ours, theirs = ([(kind, "", value) for kind, _, value in p] for p in (ours, theirs))
    return [p for p in [*ours, *theirs] if p not in ours or p not in theirs]


def test_module_has_the_stubs_names() -> None:
    stubbed = {*CLASSES, *FUNCTIONS, *constants()}
    live = {name for name in vars(_core) if not name.startswith("_")}
    assert {name for name in stubbed if not hasattr(_core, name)} == set()
    assert live - stubbed == set()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_has_the_stubs_parameters(name: str) -> None:
    assert not differences(FUNCTIONS[name], native_signature(getattr(_core, name)))


@pytest.mark.parametrize("name", CLASSES)
def test_class_has_the_stubs_members(name: str) -> None:
    live, stubbed = getattr(_core, name), methods(CLASSES[name])
    bases = [
        getattr(_core, base, None) or getattr(builtins, base, None) for base in base_names(name)
    ]
    inherited = {member for base in bases if base for member in dir(base)}
    if issubclass(live, Mapping):
        inherited |= set(dir(collections.abc.Mapping))
    public = {member for member in vars(live) if not member.startswith("_")}
    assert {member for member in stubbed if not hasattr(live, member)} == set()
    assert public - stubbed.keys() - inherited == set()


@pytest.mark.parametrize("name", CLASSES)
def test_class_members_take_what_the_stub_says(name: str) -> None:
    live = getattr(_core, name)
    for member, node in methods(CLASSES[name]).items():
        found = vars(live)[member]
        if "property" in decorators(node):
            assert isinstance(found, property), member
        else:
            assert not differences(node, native_signature(found)), member


@pytest.mark.parametrize("name", CLASSES)
def test_class_has_the_stubs_bases(name: str) -> None:
    live = getattr(_core, name)
    for base in base_names(name):
        expected = getattr(_core, base, None) or getattr(builtins, base, None) or Mapping
        assert issubclass(live, expected), base


@pytest.mark.parametrize("name", [n for n, node in CLASSES.items() if "final" in decorators(node)])
def test_final_class_cannot_be_subclassed(name: str) -> None:
    with pytest.raises(TypeError):
        type("Derived", (getattr(_core, name),), {})


def base_names(name: str) -> list[str]:
    """The stub's bases of a class, without their type arguments."""
    return [ast.unparse(base).partition("[")[0] for base in CLASSES[name].bases]


def test_package_exports_the_public_names_of_the_extension() -> None:
    stubbed = {*CLASSES, *FUNCTIONS, *constants()}
    public = {name for name in stubbed if not name.startswith("_")} | {"__version__"}
    assert set(kvroute.__all__) == public | IN_PYTHON


@pytest.mark.parametrize(
    ("stub", "native"),
    [
        ("def f(a, b=None): ...", "def f(a, c=None): ..."),
        ("def f(a, b=None): ...", "def f(a, b=1): ..."),
        ("def f(a, b=None): ...", "def f(a, *, b=None): ..."),
        ("def f(a, b=None): ...", "def f(a): ..."),
    ],
)
def test_a_different_signature_is_found(stub: str, native: str) -> None:
    left, right = (ast.parse(text).body[0] for text in (stub, native))
    assert isinstance(left, ast.FunctionDef)
    assert isinstance(right, ast.FunctionDef)
    assert differences(left, right)

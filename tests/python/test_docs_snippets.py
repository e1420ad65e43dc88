"""The Python of the documentation runs as it is written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import kvroute
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "docs/embedding.md", "docs/index.md", "docs/simulated_engines.md")
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
POLICY = re.compile(r"^```(?:json|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^ *```.*?^ *```$|`[^`]*`", re.MULTILINE | re.DOTALL)
SHOUTED = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")
LEFT_OUT = re.compile(r"\b(?:FIGURE|FIXME|PLACEHOLDER|TBD|TODO|XXX)\b")

pytestmark = pytest.mark.timeout(120)


def program_of(text: str) -> str:
    """All Python blocks of a document, each on the lines where it stands there."""
    lines = [""] * (text.count("\n") + 1)
    for block in FENCE.finditer(text):
        first = text.count("\n", 0, block.start(1))
        code = block[1].splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines) + "\n"


def environment_variables() -> set[str]:
    """What the package, the examples and the scripts read from the environment."""
    sources = [
        *(ROOT / "python").rglob("*.py"),
        *(ROOT / "examples").rglob("*.py"),
        *(ROOT / "examples").rglob("*.sh"),
        *(ROOT / "scripts").glob("*"),
    ]
    settings = (ROOT / "python/kvroute/frontend/settings.py").read_text(encoding="utf-8")
    fields = re.findall(r"^    ([a-z_]+): ", settings, re.MULTILINE)
    names = {f"KVROUTE_{field.upper()}" for field in fields}
    for source in filter(Path.is_file, sources):
        text = source.read_text(encoding="utf-8")
        names.update(re.findall(r"""environ(?:\.get\(|\[)["']([A-Z0-9_]+)""", text))
        names.update(re.findall(r"""["'](KVROUTE_[A-Z0-9_]+)["']""", text))
        if source.suffix == ".sh":
            names.update(re.findall(r"\$\{([A-Z0-9_]+)", text))
    return names


def placeholders(text: str) -> list[str]:
    """Names in capitals in the prose of a document that nothing reads from the environment."""
    prose = CODE.sub("", text)
    shouted = set(SHOUTED.findall(prose)) - environment_variables()
    return sorted(shouted | set(LEFT_OUT.findall(prose)))


def test_placeholders_are_told_from_code_and_environment_variables() -> None:
    text = (
        "Set KVROUTE_TRACES, KVROUTE_BLOCK_SIZE or BLOCK_SIZE.\n\nDEMO_OUTPUT\n\n"
        "It takes **SELECT_FIGURE**, `A_NAME` takes (PEER_FIGURE): FIGURE µs.\n\n"
        "```\nIN_CODE=1\n```\n\n- item\n\n  ```\n  IN_CODE\n  ```\n"
    )
    assert placeholders(text) == ["DEMO_OUTPUT", "FIGURE", "PEER_FIGURE", "SELECT_FIGURE"]


@pytest.mark.parametrize(
    "document",
    [
        str(path.relative_to(ROOT))
        for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "benchmarks/**/*.md")
        for path in sorted(ROOT.glob(pattern))
    ],
)
def test_no_placeholder_is_left_in_a_document(document: str) -> None:
    assert placeholders((ROOT / document).read_text(encoding="utf-8")) == []


def test_blocks_keep_their_lines() -> None:
    text = "words\n```python\na = 1\n```\n```\nnot a = 2\n```\n\n```python\nb = 2\nc = 3\n```\n"
    program = program_of(text).splitlines()
    assert {i: line for i, line in enumerate(program, 1) if line} == {
        3: "a = 1",
        10: "b = 2",
        11: "c = 3",
    }


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_python_of_a_document_runs(document: str, tmp_path: Path) -> None:
    program = tmp_path / Path(document).with_suffix(".py").name
    program.write_text(program_of((ROOT / document).read_text(encoding="utf-8")), encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, f"{document}:\n{result.stdout}{result.stderr}"


def test_the_policies_of_the_documentation_are_policies() -> None:
    found: list[str] = []
    for document in ("docs/policies.md", "docs/frontend.md"):
        found += POLICY.findall((ROOT / document).read_text(encoding="utf-8"))
    assert len(found) >= 5
    for block in found:
        policy = yaml.safe_load(block)  # JSON is YAML
        assert kvroute.KvRouter(block_size=16, policy=policy).policy == policy["name"]


def test_the_embedding_page_has_python_to_run() -> None:
    text = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
    assert len(FENCE.findall(text)) >= 8


def test_no_example_streams_under_the_client_s_default_timeout() -> None:
    for path in (ROOT / "docs/embedding.md", *(ROOT / "examples").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert "ClientSession()" not in text, path

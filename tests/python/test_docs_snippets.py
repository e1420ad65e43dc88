"""The Python of the documentation runs as it is written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "docs/embedding.md", "docs/simulated_engines.md")
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.timeout(120)


def program_of(text: str) -> str:
    """All Python blocks of a document, each on the lines where it stands there."""
    lines = [""] * (text.count("\n") + 1)
    for block in FENCE.finditer(text):
        first = text.count("\n", 0, block.start(1))
        code = block[1].splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines) + "\n"


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


def test_the_embedding_page_has_python_to_run() -> None:
    text = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
    assert len(FENCE.findall(text)) >= 8

"""What never comes in two legs is waited for so long and no longer; and the whole matrix."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from failure_matrix import (
    HASTE,
    OUTCOMES,
    ROWS,
    Cell,
    Column,
    Row,
    all_cells,
    documented,
    line,
    note_outcomes,
    table,
    with_table,
)

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

PAGE = Path(__file__).parents[3] / "docs" / "disaggregation.md"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cells(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[Column, Cell]]:
    async with all_cells(tmp_path_factory.mktemp("matrix"), HASTE) as made:
        yield made


@pytest.mark.parametrize("row", [row for row in ROWS if row.is_silent], ids=str)
async def test_a_leg_that_waits_in_vain_is_made_good_or_is_one_clear_error(
    cells: dict[Column, Cell], row: Row
) -> None:
    await note_outcomes(cells, row)
    if line(row, OUTCOMES[row]) not in PAGE.read_text():
        await note_outcomes(cells, row)  # a machine that stalls for so long makes another outcome


async def test_the_documented_matrix_is_that_of_this_run() -> None:
    if len(OUTCOMES) < len(ROWS):
        pytest.skip("not all of the matrix was run: test_disaggregated_failures.py has the rest")
    if os.environ.get("KVROUTE_WRITE_MATRIX"):
        PAGE.write_text(with_table(PAGE.read_text(), table(OUTCOMES)))
    assert documented(PAGE.read_text()) == table(OUTCOMES)

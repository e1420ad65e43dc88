"""Whatever fails in two legs: one engine's content or one clear error, and nothing is left. The
outcomes are those of the table in the documentation."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from failure_matrix import (
    ROWS,
    STEPS,
    Cell,
    Column,
    Row,
    all_cells,
    at_all,
    documented,
    documented_line,
    line,
    table,
    with_table,
)
from leaping_clock import LeapingClock

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

PAGE = Path(__file__).parents[3] / "docs" / "disaggregation.md"
IS_WRITTEN = bool(os.environ.get("KVROUTE_WRITE_MATRIX"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clock() -> LeapingClock:
    return LeapingClock()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cells(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[Column, Cell]]:
    async with all_cells(tmp_path_factory.mktemp("matrix")) as made:
        yield made


@pytest.fixture(scope="module")
def lines() -> dict[Row, str]:
    """What has been found in this run."""
    return {}


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_a_leg_that_fails_is_made_good_or_is_one_clear_error(
    clock: LeapingClock,
    cells: dict[Column, Cell],
    row: Row,
    lines: dict[Row, str],
) -> None:
    asked = {column: cell.outcome(row) for column, cell in cells.items()}
    if row.is_silent:
        with clock.leaping():
            found = await at_all(asked)
    else:
        found = await at_all(asked)
    lines[row] = line(row, found)
    if not IS_WRITTEN:
        assert lines[row] == documented_line(PAGE.read_text(), row)


async def test_the_documented_matrix_is_of_these_failures(lines: dict[Row, str]) -> None:
    page = PAGE.read_text()
    if IS_WRITTEN:
        page = with_table(page, table(lines[row] for row in ROWS))
        PAGE.write_text(page)
    assert documented(page) == table(documented_line(page, row) for row in ROWS)


@pytest.mark.parametrize(("role", "step"), STEPS)
async def test_a_client_that_leaves_ends_both_legs(
    cells: dict[Column, Cell], role: str, step: str
) -> None:
    came = await at_all({column: cell.leave_at(role, step) for column, cell in cells.items()})
    assert any(came.values())

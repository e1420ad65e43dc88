"""Whatever fails in two legs: one engine's content or one clear error, and nothing is left."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
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
    documented,
    table,
    with_table,
)

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

PAGE = Path(__file__).parents[3] / "docs" / "disaggregation.md"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cells(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[Column, Cell]]:
    async with all_cells(tmp_path_factory.mktemp("matrix")) as made:
        yield made


@pytest.fixture(scope="module")
def outcomes() -> dict[Row, dict[Column, str]]:
    return {}


async def at_all(
    cells: dict[Column, Cell], asked: dict[Column, Awaitable[str]]
) -> dict[Column, str]:
    found = await asyncio.gather(*asked.values(), return_exceptions=True)
    broken = {
        column: repr(one)
        for column, one in zip(asked, found, strict=True)
        if isinstance(one, BaseException)
    }
    assert not broken, "\n".join(f"{column}: {error}" for column, error in broken.items())
    return {column: str(one) for column, one in zip(cells, found, strict=True)}


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_a_leg_that_fails_is_made_good_or_is_one_clear_error(
    cells: dict[Column, Cell], outcomes: dict[Row, dict[Column, str]], row: Row
) -> None:
    outcomes[row] = await at_all(cells, {c: cell.outcome(row) for c, cell in cells.items()})


@pytest.mark.parametrize(("role", "step"), STEPS)
async def test_a_client_that_leaves_ends_both_legs(
    cells: dict[Column, Cell], role: str, step: str
) -> None:
    async def leave(cell: Cell) -> str:
        return str(await cell.leave_at(role, step))

    await at_all(cells, {c: leave(cell) for c, cell in cells.items()})


async def test_the_documented_matrix_is_that_of_this_run(
    outcomes: dict[Row, dict[Column, str]],
) -> None:
    if len(outcomes) < len(ROWS):
        pytest.skip("not all of the matrix was run")
    if os.environ.get("KVROUTE_WRITE_MATRIX"):
        PAGE.write_text(with_table(PAGE.read_text(), table(outcomes)))
    assert documented(PAGE.read_text()) == table(outcomes)

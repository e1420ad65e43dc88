"""Whatever fails in two legs: one engine's content or one clear error, and nothing is left."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from failure_matrix import (
    PATIENCE,
    ROWS,
    STEPS,
    Cell,
    Column,
    Row,
    all_cells,
    at_all,
    note_outcomes,
)
from kvroute.frontend import first_answer

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cells(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[Column, Cell]]:
    async with all_cells(tmp_path_factory.mktemp("matrix"), PATIENCE) as made:
        yield made


@pytest.mark.parametrize("row", [row for row in ROWS if not row.is_silent], ids=str)
async def test_a_leg_that_fails_is_made_good_or_is_one_clear_error(
    cells: dict[Column, Cell], row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    if row.step == "answer":  # the decode leg has its blocks by then, and may take its time
        monkeypatch.setattr(first_answer, "_VERDICT", PATIENCE)
    await note_outcomes(cells, row)


@pytest.mark.parametrize(("role", "step"), STEPS)
async def test_a_client_that_leaves_ends_both_legs(
    cells: dict[Column, Cell], role: str, step: str
) -> None:
    came = await at_all({column: cell.leave_at(role, step) for column, cell in cells.items()})
    assert any(came.values())

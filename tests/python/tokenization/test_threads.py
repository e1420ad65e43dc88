"""What a long text costs those who wait beside it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from kvroute.tokenization import Tokenizer

TICK = 0.002


async def test_an_event_loop_goes_on_while_a_thread_encodes_a_megabyte(
    template_directories: dict[str, Path],
) -> None:
    tokenizer = Tokenizer.from_directory(template_directories["chatml"])
    text = "in the morning " * 70_000
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(TICK)
            gaps.append(time.perf_counter() - before)

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(TICK)
    started = time.perf_counter()
    ids = await asyncio.to_thread(tokenizer.encode, text)
    took = time.perf_counter() - started
    ticker.cancel()
    assert len(ids) > 100_000
    assert len(gaps) >= 5
    assert max(gaps) < took / 2, f"the loop stood still for {max(gaps):.3f} of {took:.3f} s"

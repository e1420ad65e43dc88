"""Shows how far a replay is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_PLAIN_STEPS = 5


@contextlib.contextmanager
def replay_progress(console: Console, policy: str, total: int) -> Iterator[Callable[[], None]]:
    """Yields the function to call after each of `total` requests."""
    if console.is_terminal:
        columns = (
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console) as bars:
            task = bars.add_task(policy, total=total)
            yield lambda: bars.advance(task)
    else:
        yield _plain_lines(console, policy, total)


def _plain_lines(console: Console, policy: str, total: int) -> Callable[[], None]:
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if done * _PLAIN_STEPS // total > (done - 1) * _PLAIN_STEPS // total:
            console.print(f"{policy}: {done:,} of {total:,} requests", highlight=False)

    return advance

"""How progress is shown: bars on a terminal, one line per finished step elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

WIDEST = 400
"""Columns of a table that goes to a file or a pipe."""


def print_whole(table: Table, console: Console) -> None:
    """Print a table; where no terminal limits it, with all of its columns as wide as they are."""
    if console.is_terminal:
        console.print(table)
        return
    wanted = Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum
    Console(file=console.file, width=max(console.width, wanted)).print(table)


class _BarStep:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._progress.update(self._task, advance=amount, note=note[:40])


class _QuietStep:
    def advance(self, amount: int = 1, note: str = "") -> None:
        pass


class Display:
    """A `hwloop.progress.Progress` that draws with rich on a terminal and is quiet elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def step(self, description: str, total: int, done: int = 0) -> Iterator[_BarStep | _QuietStep]:
        """See `hwloop.progress.Progress.step`."""
        if total == done:
            self.say(f"{description}: {total} of {total} done by an earlier run", style="dim")
            yield _QuietStep()
            return
        began = time.monotonic()
        kept = f" ({done} done by an earlier run)" if done else ""
        if self.console.is_terminal:
            bars = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("ETA"),
                TimeRemainingColumn(),
                TextColumn("[dim]{task.fields[note]}"),
                console=self.console,
                transient=True,
            )
            with bars:
                yield _BarStep(bars, bars.add_task(description, total=total, completed=done, note=""))
        else:
            yield _QuietStep()
        self.say(f"{description}: {total}{kept} in {time.monotonic() - began:.0f} s")

    def say(self, line: str, style: str | None = None) -> None:
        """See `hwloop.progress.Progress.say`; what a device said is shown as it is, brackets and all."""
        self.console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)

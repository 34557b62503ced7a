"""The progress of several devices at once: one line for each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class FleetDisplay:
    """Draws one line per device on a terminal; elsewhere, what the devices have to say comes with their names."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def line(self, device: str) -> DeviceLine:
        """Return the `hwloop.progress.Progress` of one device."""
        return DeviceLine(self._bars, self._bars.add_task(escape(device), total=None, note=""), device)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()


class _LineStep:
    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._bars.update(self._task, advance=amount, note=note[:40])


class DeviceLine:
    """One device's line. See `hwloop.progress.Progress`; rich's own locks keep the threads apart."""

    def __init__(self, bars: Progress, task: TaskID, device: str) -> None:
        self._bars = bars
        self._task = task
        self._device = device

    @contextmanager
    def step(self, description: str, total: int, done: int = 0) -> Iterator[_LineStep]:
        """See `hwloop.progress.Progress.step`."""
        began = time.monotonic()
        shown = f"{escape(self._device)}: {escape(description)}"
        self._bars.update(self._task, description=shown, total=total, completed=done, note="")
        yield _LineStep(self._bars, self._task)
        kept = f" ({done} done by an earlier run)" if done else ""
        self.say(f"{description}: {total}{kept} in {time.monotonic() - began:.0f} s")

    def say(self, line: str) -> None:
        """See `hwloop.progress.Progress.say`."""
        self._bars.console.print(f"{escape(self._device)}: {escape(line)}", highlight=False, soft_wrap=True)

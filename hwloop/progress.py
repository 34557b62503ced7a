"""How long work tells what it does: a description, how far it is, a note; never how it is drawn.

Rooms below the CLI take a `Progress`; the CLI passes one that draws with rich, tests pass `Silent`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Step(Protocol):
    """One running piece of work."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Report that `amount` more units are done; `note` says what the last one was."""


class Progress(Protocol):
    """Receives the progress of long work."""

    @contextmanager
    def step(self, description: str, total: int, done: int = 0) -> Iterator[Step]:
        """Open a piece of work of `total` units of which `done` were finished by an earlier run."""
        ...

    def say(self, line: str) -> None:
        """Tell one line that outlives the progress display."""


class _SilentStep:
    def advance(self, amount: int = 1, note: str = "") -> None:
        pass


class Silent:
    """A `Progress` that shows nothing."""

    @contextmanager
    def step(self, description: str, total: int, done: int = 0) -> Iterator[Step]:
        """See `Progress.step`."""
        yield _SilentStep()

    def say(self, line: str) -> None:
        """See `Progress.say`."""

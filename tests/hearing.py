"""A progress that remembers what it was told."""

from __future__ import annotations

from hwloop.progress import Silent


class Heard(Silent):
    """Keeps the lines.

    Attributes:
        lines: in order.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

"""Weights of networks on their way through a search, as files of the study."""

from __future__ import annotations

from pathlib import Path

from hwloop.files import write_atomic


class WeightFolder:
    """A folder of files that are whole or absent.

    Args:
        folder: made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> bytes | None:
        """The content of a file; None when there is none."""
        path = self._folder / name
        return path.read_bytes() if path.exists() else None

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self._folder / name, content)

    def drop(self, name: str) -> None:
        """Remove a file; nothing happens when there is none."""
        (self._folder / name).unlink(missing_ok=True)

"""Where a search keeps weights between runs."""

from __future__ import annotations

from typing import Protocol


class Keep(Protocol):
    """Where weights are kept between runs; names are file names."""

    def read(self, name: str) -> bytes | None:
        """What was written under a name, whole; None when there is nothing."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Write whole or not at all."""
        ...

    def drop(self, name: str) -> None:
        """Forget a name; nothing happens when it is unknown."""
        ...

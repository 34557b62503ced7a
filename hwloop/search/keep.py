"""Where a search keeps weights between runs."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Protocol

import torch

from hwloop.errors import StudyError


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


def packed(content: Mapping[str, Any]) -> bytes:
    """Tensors and plain data as a file of torch."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    return buffer.getvalue()


def unpacked(content: bytes, name: str, remedy: str) -> dict[str, Any]:
    """The inverse of `packed`; runs no code of the file.

    Args:
        content: of the file.
        name: of what is in it, for the error.
        remedy: what the user can do.

    Raises:
        StudyError: it is damaged.
    """
    try:
        found: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the damage makes it meet
        raise StudyError(f"{name} is damaged ({type(error).__name__}); {remedy}") from error
    return found

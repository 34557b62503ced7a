"""The shape of an image on the command line."""

from __future__ import annotations

from hwloop.errors import UserError


def shape_of(text: str) -> tuple[int, int, int] | None:
    """Read "3x32x32" as channels, height and width; None for "".

    Raises:
        UserError: it is something else, or the image is not square.
    """
    if not text:
        return None
    try:
        channels, height, width = (int(size) for size in text.split("x"))
    except ValueError as error:
        raise UserError(f"--input {text}: give channels, height and width, as in 3x32x32") from error
    if min(channels, height, width) < 1 or height != width:
        raise UserError(f"--input {text}: images are square, and every size is at least 1")
    return channels, height, width

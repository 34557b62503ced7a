"""Encoded images to arrays, with Pillow."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hwloop.errors import DataError

_GREY_MODES = frozenset({"1", "L", "LA"})


def decode(
    encoded: Iterable[tuple[str, bytes | Path]], image_size: int | None, on_image: Any = None
) -> NDArray[np.uint8]:
    """Decode images to one array; grey ones stay grey unless a colour image is among them.

    Args:
        encoded: a name for messages ("file, row 3") and the bytes or the file of each image.
        image_size: height and width to resize to (bilinear), or None.
        on_image: called without arguments after each image, or None.

    Returns:
        (n, c, h, w) uint8, c = 1 or 3.

    Raises:
        DataError: An image that Pillow cannot read, or sizes that differ while `image_size` is None.
    """
    pixels: list[NDArray[np.uint8]] = []
    first_name = ""
    for name, source in encoded:
        array = _pixels(name, source, image_size)
        if not pixels:
            first_name = name
        elif array.shape[:2] != pixels[0].shape[:2]:
            raise DataError(
                f"{name}: the image is {_size(array)}, {first_name} is {_size(pixels[0])}: set image_size to resize"
            )
        pixels.append(array)
        if on_image is not None:
            on_image()
    if not pixels:
        return np.zeros((0, 1, 1, 1), dtype=np.uint8)
    channels = max(array.shape[2] for array in pixels)
    height, width = pixels[0].shape[:2]
    stacked = np.empty((len(pixels), channels, height, width), dtype=np.uint8)
    for row, array in enumerate(pixels):
        stacked[row] = array.transpose(2, 0, 1)  # a grey image among colour ones is repeated by broadcasting
    return stacked


def _pixels(name: str, source: bytes | Path, image_size: int | None) -> NDArray[np.uint8]:
    """Return (h, w, 1 or 3) uint8."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            mode = "L" if image.mode in _GREY_MODES else "RGB"
            converted = image if image.mode == mode else image.convert(mode)
            if image_size is not None and converted.size != (image_size, image_size):
                converted = converted.resize((image_size, image_size), Image.Resampling.BILINEAR)
            array = np.asarray(converted, dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{name}: not a readable image ({reason})") from error
    return array[:, :, None] if array.ndim == 2 else array


def resize_floats(images: NDArray[Any], image_size: int) -> NDArray[np.float32]:
    """Resize (n, c, h, w) arrays of numbers to (n, c, image_size, image_size), bilinear."""
    count, channels = images.shape[:2]
    resized = np.empty((count, channels, image_size, image_size), dtype=np.float32)
    for row in range(count):
        for channel in range(channels):
            plane = Image.fromarray(images[row, channel].astype(np.float32))
            resized[row, channel] = np.asarray(plane.resize((image_size, image_size), Image.Resampling.BILINEAR))
    return resized


def _size(array: NDArray[Any]) -> str:
    return f"{array.shape[0]}x{array.shape[1]}"

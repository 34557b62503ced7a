"""Labels as files have them, to indices of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwloop.errors import DataError


def class_indices(
    values: NDArray[Any], classes: Sequence[str] | None, where: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Check labels and name the classes.

    Args:
        values: (n,) whole numbers, or strings.
        classes: the names if known; else whole numbers name themselves up to the largest, strings are sorted.
        where: the file, for messages.

    Returns:
        (n,) int64 indices, and the names.

    Raises:
        DataError: Labels that are no whole numbers or strings, or lie outside the classes (the row is named).
    """
    if values.ndim != 1:
        raise DataError(f"{where}: labels have shape {values.shape}, one whole number per image is needed")
    if values.dtype.kind in "OUS":
        return _named(values, classes, where)
    if values.dtype.kind == "f" and np.array_equal(values, np.floor(values)):
        values = values.astype(np.int64)
    if values.dtype.kind not in "iub":
        raise DataError(f"{where}: labels are of type {values.dtype}, whole numbers or names are needed")
    indices = values.astype(np.int64)
    if classes is None:
        classes = [str(label) for label in range(int(indices.max(initial=-1)) + 1)]
    outside = np.flatnonzero((indices < 0) | (indices >= len(classes)))
    if outside.size:
        row = int(outside[0])
        raise DataError(
            f"{where}, row {row}: label {int(indices[row])} is outside the {len(classes)} classes "
            f"(0 to {len(classes) - 1})"
        )
    return indices, tuple(classes)


def _named(
    values: NDArray[Any], classes: Sequence[str] | None, where: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    names = [value.decode() if isinstance(value, bytes) else value for value in values.tolist()]
    for row, name in enumerate(names):
        if not isinstance(name, str):
            raise DataError(f"{where}, row {row}: the label is {name!r}, a whole number or a name is needed")
    known = tuple(classes) if classes is not None else tuple(sorted(set(names)))
    positions = {name: index for index, name in enumerate(known)}
    for row, name in enumerate(names):
        if name not in positions:
            raise DataError(f"{where}, row {row}: label {name!r} is not one of the {len(known)} classes")
    return np.array([positions[name] for name in names], dtype=np.int64), known


def require_outputs(classes: Sequence[str], outputs: int) -> None:
    """Check that a network has one output per class.

    Raises:
        DataError: It has another number.
    """
    if len(classes) != outputs:
        raise DataError(
            f"the data have {len(classes)} classes and the network {outputs} outputs: "
            "build the network for the data's classes, or correct the labels"
        )

"""What a selector is, and what all of them need."""

from __future__ import annotations

from typing import Protocol

import moocore
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BEYOND = 1.1
"""The reference point of scaled objectives: a little worse than the worst of the front."""


class Selector(Protocol):
    """An environmental selection, as an order."""

    def __call__(self, values: FloatArray, keep: int) -> IntArray:
        """(n,) places of (n, m) scaled objective values, the first to keep first.

        Only the order of the first `keep` has to be that of the selection; the others follow in any order.
        """
        ...


def scaled(values: FloatArray) -> FloatArray:
    """(n, m) objectives with the ideal point of the non-dominated ones at 0 and their nadir at 1."""
    front = values[moocore.is_nondominated(values, keep_weakly=True)]
    low, high = front.min(axis=0), front.max(axis=0)
    return np.asarray((values - low) / np.where(high > low, high - low, 1.0), dtype=np.float64)


def fronts(values: FloatArray, keep: int) -> list[IntArray]:
    """Places of the points by non-dominated front, the best first, until `keep` are covered; the rest is one more."""
    left = np.arange(len(values))
    found: list[IntArray] = []
    covered = 0
    while len(left) and covered < keep:
        best = np.asarray(moocore.is_nondominated(values[left], keep_weakly=True), dtype=np.bool_)
        found.append(left[best])
        covered += int(best.sum())
        left = left[~best]
    return [*found, left] if len(left) else found

"""Reference vectors: every direction ranks all points by a Tchebycheff value (after Zhang and Li 2007, MOEA/D).

A point's rank is its best place in any direction. So the first points are the winners of all directions, then come
the seconds: what a population with one member per direction would keep.
"""

from __future__ import annotations

import numpy as np

from hwloop.search.directions import directions
from hwloop.search.hamp.selection.order import FloatArray, IntArray

LEAST_WEIGHT = 1e-3


def decomposition(values: FloatArray, keep: int) -> IntArray:
    """See `Selector`."""
    weights = np.maximum(directions(values.shape[1], keep), LEAST_WEIGHT)
    regret = np.maximum(values, 0)[:, None, :] / weights[None, :, :]
    by_direction = regret.max(axis=2) + 1e-3 * regret.sum(axis=2)
    order = np.argsort(by_direction, axis=0, kind="stable")
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(len(values))[:, None], axis=0)
    best = places.argmin(axis=1)
    rows = np.arange(len(values))
    return np.lexsort((by_direction[rows, best], places[rows, best]))

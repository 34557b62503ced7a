"""Reference vectors: every direction ranks all points by a Tchebycheff value (after Zhang and Li 2007, MOEA/D).

A point's rank is its best place in any direction. So the first points are the winners of all directions, then come
the seconds: what a population with one member per direction would keep.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from pymoo.util.reference_direction import UniformReferenceDirectionFactory

from hwloop.search.hamp.selection.order import FloatArray, IntArray

LEAST_WEIGHT = 1e-3


def decomposition(values: FloatArray, keep: int) -> IntArray:
    """See `Selector`."""
    weights = directions(values.shape[1], keep)
    regret = np.maximum(values, 0)[:, None, :] / weights[None, :, :]
    by_direction = regret.max(axis=2) + 1e-3 * regret.sum(axis=2)
    order = np.argsort(by_direction, axis=0, kind="stable")
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(len(values))[:, None], axis=0)
    best = places.argmin(axis=1)
    rows = np.arange(len(values))
    return np.lexsort((by_direction[rows, best], places[rows, best]))


@lru_cache(maxsize=16)
def directions(objectives: int, about: int) -> FloatArray:
    """(k, m) directions on the simplex, as many as there are evenly spread ones, up to `about` (at least m)."""
    parts = 1
    while len(_spread(objectives, parts + 1)) <= about and objectives > 1:
        parts += 1
    return np.maximum(_spread(objectives, parts), LEAST_WEIGHT)


@lru_cache(maxsize=256)
def _spread(objectives: int, parts: int) -> FloatArray:
    return np.asarray(UniformReferenceDirectionFactory(objectives, n_partitions=parts).do(), dtype=np.float64)

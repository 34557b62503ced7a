"""Evenly spread directions in the space of objectives."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pymoo.util.reference_direction import UniformReferenceDirectionFactory

FloatArray = NDArray[np.float64]


@lru_cache(maxsize=16)
def directions(objectives: int, about: int) -> FloatArray:
    """(k, m) directions on the simplex (Das, Dennis 1998): as many as a whole grid has, up to `about` (at least m)."""
    parts = 1
    while objectives > 1 and len(_grid(objectives, parts + 1)) <= about:
        parts += 1
    return _grid(objectives, parts)


@lru_cache(maxsize=256)
def _grid(objectives: int, parts: int) -> FloatArray:
    return np.asarray(UniformReferenceDirectionFactory(objectives, n_partitions=parts).do(), dtype=np.float64)

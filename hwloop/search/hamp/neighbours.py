"""Moves to neighbouring points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwloop.search.hamp.variation import reflected, segment
from hwloop.search.structure import Structure

IntArray = NDArray[np.int64]


def neighbours(
    points: IntArray, moves: int, structure: Structure, low: IntArray, high: IntArray, rng: np.random.Generator
) -> IntArray:
    """(n * moves, v) neighbours of (n, v) points.

    A move is one of: one or two variables by one or two grains (a flag turns over); one variable up and another down;
    a unit as another of the points has it; a segment of neighbouring units one grain thinner or wider.
    """
    there = np.repeat(points, moves, axis=0)
    count, variables = len(there), there.shape[1]
    kinds = rng.random(count)
    rows = np.arange(count)
    first, second = rng.integers(0, variables, (2, count))
    step = rng.choice([-2, -1, 1, 2], count, p=[0.15, 0.35, 0.35, 0.15])
    other = np.where(kinds < 0.35, 0, np.where(kinds < 0.6, rng.choice([-1, 1], count), -np.sign(step)))
    single = kinds < 0.8
    there[rows[single], first[single]] += step[single]
    there[rows[single], second[single]] += other[single]
    there = reflected(there, low, high)
    donors = rng.integers(0, len(points), count)
    for row in np.flatnonzero(~single):
        if kinds[row] < 0.92:
            places = np.array(structure.units[int(rng.integers(len(structure.units)))], dtype=np.int64)
            there[row, places] = points[donors[row], places]
        else:
            there[row, segment(structure, rng)] += np.sign(step[row])
    return np.clip(there, low, high)

"""Children of two parents, and mutants: both respect which variables belong together.

- Crossover takes whole units (a residual block with its flag) from one parent or the other: a segment of neighbouring
  units (a stage or a part of one), or each unit by a coin; or it takes integers between and just beyond the parents'.
- Mutation moves single integers by a few grains, now and then anywhere; it turns flags over; and it makes a segment of
  neighbouring units thinner or wider together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwloop.search.structure import Structure

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Variation:
    """How often what happens.

    Attributes:
        crossover: share of the children that have two parents; the others are mutants of one.
        segment: share of the crossovers that swap one segment; of the rest, one half each are by unit and between.
        rate: expected number of variables that a mutation moves.
        far: share of the moves that go anywhere.
        together: share of the mutations that also move a segment.
    """

    crossover: float = 0.9
    segment: float = 0.4
    rate: float = 1.5
    far: float = 0.15
    together: float = 0.15

    def children(
        self,
        first: IntArray,
        second: IntArray,
        structure: Structure,
        low: IntArray,
        high: IntArray,
        rng: np.random.Generator,
    ) -> IntArray:
        """(n, v) children, one for each pair of (n, v) parents, within (v,) bounds."""
        children = first.copy()
        kinds = rng.random(len(first))
        for row in np.flatnonzero(rng.random(len(first)) < self.crossover):
            if kinds[row] < self.segment:
                places = segment(structure, rng)
                children[row, places] = second[row, places]
            elif kinds[row] < (1 + self.segment) / 2:
                for unit in structure.units:
                    if rng.random() < 0.5:
                        children[row, list(unit)] = second[row, list(unit)]
            else:
                spread = rng.uniform(-0.25, 1.25, children.shape[1])
                between = first[row] + spread * (second[row] - first[row])
                children[row] = np.clip(np.rint(between), low, high)
        return self.mutants(children, structure, low, high, rng)

    def mutants(
        self, points: IntArray, structure: Structure, low: IntArray, high: IntArray, rng: np.random.Generator
    ) -> IntArray:
        """(n, v) mutants of (n, v) points within (v,) bounds."""
        count, variables = points.shape
        moved = rng.random((count, variables)) < min(1.0, self.rate / variables)
        steps = rng.geometric(0.5, (count, variables)) * rng.choice([-1, 1], (count, variables))
        anywhere = rng.integers(low, high + 1, (count, variables))
        near = reflected(points + steps, low, high)
        mutants = np.where(moved, np.where(rng.random((count, variables)) < self.far, anywhere, near), points)
        for row in np.flatnonzero(rng.random(count) < self.together):
            places = segment(structure, rng)
            mutants[row, places] += rng.choice([-1, 1])
        return np.clip(mutants, low, high)


def segment(structure: Structure, rng: np.random.Generator) -> IntArray:
    """Places of the variables of some neighbouring units: one unit, or up to half of all."""
    units = structure.units
    length = int(rng.integers(1, max(2, len(units) // 2 + 1)))
    start = int(rng.integers(0, len(units) - length + 1))
    return np.array([place for unit in units[start : start + length] for place in unit], dtype=np.int64)


def reflected(points: IntArray, low: IntArray, high: IntArray) -> IntArray:
    """Points that stepped over a bound, as far inside of it; those that still do not fit, on it."""
    inside = np.where(points < low, 2 * low - points, points)
    inside = np.where(inside > high, 2 * high - inside, inside)
    return np.clip(inside, low, high)

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
        count, variables = len(first), first.shape[1]
        crossed = rng.random(count) < self.crossover
        kinds = rng.random(count)
        by_segment = crossed & (kinds < self.segment)
        by_unit = crossed & (kinds >= self.segment) & (kinds < (1 + self.segment) / 2)
        between = crossed & (kinds >= (1 + self.segment) / 2)
        from_second = (rng.random((count, len(structure.units))) < 0.5)[:, unit_of(structure, variables)]
        from_second &= by_unit[:, None]
        for row in np.flatnonzero(by_segment):
            from_second[row, segment(structure, rng)] = True
        mixed = np.where(from_second, second, first)
        blended = np.rint(first + rng.uniform(-0.25, 1.25, (count, variables)) * (second - first)).astype(np.int64)
        children = np.where(between[:, None], np.clip(blended, low, high), mixed)
        return self.mutants(children, structure, low, high, rng)

    def mutants(
        self, points: IntArray, structure: Structure, low: IntArray, high: IntArray, rng: np.random.Generator
    ) -> IntArray:
        """(n, v) mutants of (n, v) points within (v,) bounds."""
        count, variables = len(points), points.shape[1]
        moved = rng.random((count, variables)) < min(1.0, self.rate / variables)
        steps = rng.geometric(0.5, (count, variables)) * rng.choice([-1, 1], (count, variables))
        anywhere = rng.integers(low, high + 1, (count, variables))
        near = reflected(points + steps, low, high)
        mutants = np.where(moved, np.where(rng.random((count, variables)) < self.far, anywhere, near), points)
        for row in np.flatnonzero(rng.random(count) < self.together):
            places = segment(structure, rng)
            mutants[row, places] += rng.choice([-1, 1])
        return np.clip(mutants, low, high)


def unit_of(structure: Structure, variables: int) -> IntArray:
    """(variables,) number of the unit that each is in."""
    units = np.zeros(variables, dtype=np.int64)
    for number, places in enumerate(structure.units):
        units[list(places)] = number
    return units


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

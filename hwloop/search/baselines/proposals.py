"""Searches that learn nothing: random candidates, and networks that keep one share of every group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.core.algorithm import Algorithm
from pymoo.core.population import Population
from pymoo.util.display.multi import MultiObjectiveOutput

from hwloop.search.algorithms import Start, register
from hwloop.search.problem import PruningProblem

IntArray = NDArray[np.int64]

TRIES = 100


@register("random")
def random_search(start: Start) -> Any:
    """Random candidates, the first generation excepted: that is the one every algorithm begins with."""
    return RandomSearch(start.population, start.initial)


@register("uniform")
def uniform_scaling(start: Start) -> Any:
    """All networks that keep the same share of the channels of every group, from the base downwards, evenly spread."""
    return Proposals(start.population, scaled_uniformly(start.problem))


class _Proposer(Algorithm):  # type: ignore[misc]  # pymoo has no types
    """Proposes batches and keeps everything."""

    def __init__(self) -> None:
        super().__init__(output=MultiObjectiveOutput())

    def _initialize_infill(self) -> Any:
        return self._infill()

    def _initialize_advance(self, infills: Any = None, **_kwargs: Any) -> None:
        self.pop = infills

    def _advance(self, infills: Any = None, **_kwargs: Any) -> None:
        if infills is None:
            self.termination.terminate()
        else:
            self.pop = Population.merge(self.pop, infills)


class RandomSearch(_Proposer):
    """Proposes random points within the bounds, none twice.

    Args:
        pop_size: points per generation.
        initial: (k, v) the first ones.
    """

    def __init__(self, pop_size: int, initial: IntArray) -> None:
        super().__init__()
        self.pop_size = pop_size
        self._initial = initial
        self._seen: set[tuple[int, ...]] = set()

    def _initialize_infill(self) -> Any:
        return Population.new("X", np.array(self._new(self._initial, len(self._initial)), dtype=np.int64))

    def _infill(self) -> Any:
        low = np.asarray(self.problem.xl, dtype=np.int64)
        high = np.asarray(self.problem.xu, dtype=np.int64)
        found: list[tuple[int, ...]] = []
        for _ in range(TRIES):
            if len(found) == self.pop_size:
                break
            drawn = self.random_state.integers(low, high + 1, (self.pop_size, len(low)))
            found += self._new(drawn, self.pop_size - len(found))
        return Population.new("X", np.array(found, dtype=np.int64)) if found else None

    def _new(self, points: IntArray, most: int) -> list[tuple[int, ...]]:
        """The first points, so many at most, that were not proposed yet; from now on they are."""
        different = dict.fromkeys(tuple(map(int, row)) for row in points)
        fresh = [point for point in different if point not in self._seen][:most]
        self._seen.update(fresh)
        return fresh


class Proposals(_Proposer):
    """Proposes points from a list, in generations, and then no more.

    Args:
        pop_size: points per generation.
        points: (k, v) all of them.
    """

    def __init__(self, pop_size: int, points: IntArray) -> None:
        super().__init__()
        self._batches: Iterator[IntArray] = iter(
            [points[start : start + pop_size] for start in range(0, len(points), pop_size)]
        )

    def _infill(self) -> Any:
        batch = next(self._batches, None)
        return None if batch is None else Population.new("X", batch)


def scaled_uniformly(problem: PruningProblem) -> IntArray:
    """(k, G + B) indices of all different networks of uniform widths, coarse steps of the share first."""
    finest = int(max(np.asarray(problem.xu) - np.asarray(problem.xl), default=1))
    found: dict[tuple[int, ...], None] = {}
    steps = 1
    while steps < 16 * (finest + 1):
        shares = np.linspace(1, 0, steps + 1)
        points = problem.nearest(np.repeat(shares[:, None], problem.groups, axis=1))
        found |= dict.fromkeys(tuple(map(int, row)) for row in points)
        steps *= 2
    return np.array(list(found), dtype=np.int64)

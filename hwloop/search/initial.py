"""The first generation: the base network, uniformly thinner ones, and random ones."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from pymoo.operators.sampling.rnd import IntegerRandomSampling

from hwloop.search.problem import PruningProblem

IntArray = NDArray[np.int64]

LADDER_SHARE = 4
"""One in so many of the first generation is a rung of the uniform ladder."""

MOST_RUNGS = 16

TRIES = 100
"""Random draws are repeated this often for the candidates that are still missing."""


def initial_indices(problem: PruningProblem, population: int, seed: int) -> IntArray:
    """Level indices of the first generation.

    The base network comes first, then networks in which every group keeps the same share of its channels and every
    block remains (from the thinnest upwards), then random ones. All are different. A space that is not larger than the
    population is returned whole.

    Args:
        problem: the problem.
        population: how many are wanted.
        seed: of the random ones.

    Returns:
        (k, G + B) indices, k <= population.
    """
    upper = np.asarray(problem.xu, dtype=np.int64)
    if problem.size <= population:
        every = itertools.product(*[range(int(bound), -1, -1) for bound in upper])  # the base network first
        return np.array(list(every), dtype=np.int64)
    rungs = min(MOST_RUNGS, max(1, population // LADDER_SHARE))
    shares = np.linspace(0, 1, rungs + 1)[:-1]  # 1 is the base network itself
    base = np.asarray(problem.space.base.widths)
    thinnest = np.array([problem.space.levels(g)[0] for g in range(len(base))]) / base
    least = thinnest.min(initial=1.0)
    ladder = problem.nearest(least + shares[:, None] * (1 - least) * np.ones(len(base)))
    found: dict[tuple[int, ...], None] = dict.fromkeys(tuple(map(int, row)) for row in (upper, *ladder))
    rng = np.random.default_rng(seed)
    for _ in range(TRIES):
        if len(found) >= population:
            break
        drawn = IntegerRandomSampling().do(problem, population, random_state=rng).get("X")
        found |= dict.fromkeys(tuple(map(int, row)) for row in drawn)
    return np.array(list(found)[:population], dtype=np.int64)

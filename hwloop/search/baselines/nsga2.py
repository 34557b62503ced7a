"""NSGA-II (Deb, Pratap, Agarwal, Meyarivan 2002), as pymoo has it, on integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2

from hwloop.search.algorithms import register
from hwloop.search.baselines.integers import variation
from hwloop.search.problem import PruningProblem


@register("nsga2")
def nsga2(problem: PruningProblem, population: int, initial: NDArray[np.int64]) -> Any:
    """NSGA-II with the variation of `integers`."""
    return NSGA2(pop_size=population, sampling=initial, eliminate_duplicates=True, **variation())

"""NSGA-III (Deb, Jain 2014), as pymoo has it, on integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga3 import NSGA3

from hwloop.search.algorithms import register
from hwloop.search.baselines.integers import variation
from hwloop.search.directions import directions
from hwloop.search.problem import PruningProblem


@register("nsga3")
def nsga3(problem: PruningProblem, population: int, initial: NDArray[np.int64]) -> Any:
    """NSGA-III with as many evenly spread reference directions as the population allows."""
    return NSGA3(
        directions(problem.n_obj, population),
        pop_size=population,
        sampling=initial,
        eliminate_duplicates=True,
        **variation(),
    )

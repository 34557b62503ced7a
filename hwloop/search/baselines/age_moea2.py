"""AGE-MOEA-II (Panichella 2022), as pymoo has it, on integers."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwloop.errors import UserError
from hwloop.search.algorithms import register
from hwloop.search.baselines.integers import variation
from hwloop.search.problem import PruningProblem


@register("age-moea2")
def age_moea2(problem: PruningProblem, population: int, initial: NDArray[np.int64]) -> Any:
    """AGE-MOEA-II.

    Raises:
        UserError: numba is not installed; pymoo compiles parts of it.
    """
    if importlib.util.find_spec("numba") is None:
        raise UserError("the search algorithm 'age-moea2' of pymoo needs numba, which is not installed: install numba")
    from pymoo.algorithms.moo.age2 import AGEMOEA2

    return AGEMOEA2(pop_size=population, sampling=initial, eliminate_duplicates=True, **variation())

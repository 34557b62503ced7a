"""HAMP by name."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwloop.search.algorithms import register
from hwloop.search.hamp.algorithm import HAMP
from hwloop.search.problem import PruningProblem


@register("hamp")
def hamp(problem: PruningProblem, population: int, initial: NDArray[np.int64]) -> Any:
    """HAMP with all its parts; what is cheap and what belongs together it learns from the problem."""
    return HAMP(population, sampling=initial)

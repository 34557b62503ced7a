"""SMS-EMOA (Beume, Naujoks, Emmerich 2007), as pymoo has it, on integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.sms import SMSEMOA

from hwloop.search.algorithms import register
from hwloop.search.baselines.integers import variation
from hwloop.search.problem import PruningProblem


@register("sms-emoa")
def sms_emoa(problem: PruningProblem, population: int, initial: NDArray[np.int64]) -> Any:
    """SMS-EMOA in generations: a whole population of children, then selection."""
    return SMSEMOA(pop_size=population, sampling=initial, eliminate_duplicates=True, **variation())

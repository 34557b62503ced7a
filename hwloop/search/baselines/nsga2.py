"""NSGA-II (Deb, Pratap, Agarwal, Meyarivan 2002), as pymoo has it, on integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair

from hwloop.search.algorithms import register


@register("nsga2")
def nsga2(population: int, initial: NDArray[np.int64]) -> Any:
    """NSGA-II with simulated binary crossover and polynomial mutation, both rounded to integers.

    The indices of crossover and mutation are low (3), so that steps of whole levels are likely.
    """
    return NSGA2(
        pop_size=population,
        sampling=initial,
        crossover=SBX(prob=0.9, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )

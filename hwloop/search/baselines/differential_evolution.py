"""Multi-objective differential evolution: GDE3 (Kukkonen, Lampinen 2005), as pymoo has it, on integers.

Lian et al. 2024 prune filters with a multi-objective differential evolution; which one, could not be read.
"""

from __future__ import annotations

from typing import Any

from pymoo.algorithms.moo.gde3 import GDE3
from pymoo.operators.repair.rounding import RoundingRepair

from hwloop.search.algorithms import Start, register


@register("gde3")
def gde3(start: Start) -> Any:
    """GDE3 with pymoo's settings; its trial points are rounded to integers."""
    algorithm = GDE3(pop_size=len(start.initial), sampling=start.initial)
    algorithm.mating.repair = RoundingRepair()
    return algorithm

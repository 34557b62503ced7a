"""NSGA-II (Deb, Pratap, Agarwal, Meyarivan 2002), as pymoo has it, on integers."""

from __future__ import annotations

from typing import Any

from pymoo.algorithms.moo.nsga2 import NSGA2

from hwloop.search.algorithms import Start, register
from hwloop.search.baselines.integers import variation


@register("nsga2")
def nsga2(start: Start) -> Any:
    """NSGA-II with the variation of `integers`."""
    return NSGA2(pop_size=start.population, sampling=start.initial, eliminate_duplicates=True, **variation())

"""NSGA-III (Deb, Jain 2014), as pymoo has it, on integers."""

from __future__ import annotations

from typing import Any

from pymoo.algorithms.moo.nsga3 import NSGA3

from hwloop.search.algorithms import Start, register
from hwloop.search.baselines.integers import variation
from hwloop.search.directions import directions


@register("nsga3")
def nsga3(start: Start) -> Any:
    """NSGA-III with as many evenly spread reference directions as the population allows."""
    return NSGA3(
        directions(start.problem.n_obj, start.population),
        pop_size=start.population,
        sampling=start.initial,
        eliminate_duplicates=True,
        **variation(),
    )

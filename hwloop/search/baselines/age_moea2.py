"""AGE-MOEA-II (Panichella 2022), as pymoo has it, on integers."""

from __future__ import annotations

import importlib.util
from typing import Any

from hwloop.errors import UserError
from hwloop.search.algorithms import Start, register
from hwloop.search.baselines.integers import variation


@register("age-moea2")
def age_moea2(start: Start) -> Any:
    """AGE-MOEA-II.

    Raises:
        UserError: numba is not installed; pymoo compiles parts of it.
    """
    if importlib.util.find_spec("numba") is None:
        raise UserError("the search algorithm 'age-moea2' of pymoo needs numba, which is not installed: install numba")
    from pymoo.algorithms.moo.age2 import AGEMOEA2

    return AGEMOEA2(pop_size=start.population, sampling=start.initial, eliminate_duplicates=True, **variation())

"""SMS-EMOA (Beume, Naujoks, Emmerich 2007), as pymoo has it, on integers."""

from __future__ import annotations

from typing import Any

from pymoo.algorithms.moo.sms import SMSEMOA

from hwloop.search.algorithms import Start, register
from hwloop.search.baselines.integers import variation


@register("sms-emoa")
def sms_emoa(start: Start) -> Any:
    """SMS-EMOA in generations: a whole population of children, then selection."""
    return SMSEMOA(pop_size=start.population, sampling=start.initial, eliminate_duplicates=True, **variation())

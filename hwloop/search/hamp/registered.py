"""HAMP by name."""

from __future__ import annotations

from typing import Any

from hwloop.search.algorithms import Start, register
from hwloop.search.hamp.algorithm import HAMP


@register("hamp")
def hamp(start: Start) -> Any:
    """HAMP with all its parts; what is cheap and what belongs together it learns from the problem."""
    return HAMP(start.population, sampling=start.initial)

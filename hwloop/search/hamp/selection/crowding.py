"""Non-dominated sorting, then crowding distance (Deb et al. 2002, NSGA-II)."""

from __future__ import annotations

import numpy as np
from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance

from hwloop.search.hamp.selection.order import FloatArray, IntArray, fronts


def crowding(values: FloatArray, keep: int) -> IntArray:
    """See `Selector`: front by front, in each the least crowded first."""
    ordered = [
        front[np.argsort(-calc_crowding_distance(values[front]), kind="stable")] for front in fronts(values, keep)
    ]
    return np.concatenate(ordered)

"""Which candidates to measure during a search. Pure.

Worth a trial is what decides something: a candidate of which the predictor's interval does not tell whether it is on
the front, or whether it keeps the latency's limit. Elites come first, wide intervals before narrow ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


def undecided(optimistic: FloatArray, pessimistic: FloatArray) -> BoolArray:
    """(n,) which of n candidates may be on the front, and may not.

    Args:
        optimistic: (n, m) objectives with every uncertain one at the lower end of its interval.
        pessimistic: the same at the upper end.
    """
    count = len(optimistic)
    may, must = np.ones(count, dtype=bool), np.ones(count, dtype=bool)
    for index in range(count):
        others = np.arange(count) != index
        may[index] = not _dominated(optimistic[index], pessimistic[others])
        must[index] = not _dominated(pessimistic[index], optimistic[others])
    return may & ~must


def choose_probes(
    count: int,
    front: BoolArray,
    unclear: BoolArray,
    widths: FloatArray,
    measured: BoolArray,
) -> IntArray:
    """Places of at most `count` of n candidates to measure next.

    Unclear elites first, then other unclear candidates, then the rest of the front; the wider its interval the sooner;
    the earlier evaluated one of equals. Candidates about which nothing is open are never sent.

    Args:
        count: how many may be sent.
        front: (n,) which are on the front as predicted.
        unclear: (n,) of which a measurement would decide something.
        widths: (n,) of the intervals, relative.
        measured: (n,) which were measured or sent before.
    """
    rank = np.where(front & unclear, 0, np.where(unclear, 1, 2))
    order = np.lexsort((np.arange(len(front)), -widths, rank))
    wanted = order[~measured[order] & (front | unclear)[order]]
    return wanted[: max(count, 0)].astype(np.int64)


def allowance(trials: int, generation: int, generations: int) -> int:
    """How many trials may have been spent when a generation begins, so that they last until the end of the search.

    Nothing before the first generation is known; the last generation may still use what is left.
    """
    if generations < 2:
        return 0
    return trials * generation // (generations - 1)


def _dominated(point: FloatArray, others: FloatArray) -> bool:
    return bool(((others <= point).all(axis=1) & (others < point).any(axis=1)).any())

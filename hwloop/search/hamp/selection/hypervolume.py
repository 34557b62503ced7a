"""Non-dominated sorting, then what each point adds to the hypervolume (Beume, Naujoks, Emmerich 2007, SMS-EMOA)."""

from __future__ import annotations

import moocore
import numpy as np

from hwloop.search.hamp.selection.order import BEYOND, FloatArray, IntArray, fronts

MOST_REMOVALS_OBJECTIVES = 3
"""With more objectives contributions are too dear to be computed anew after each removal."""


def hypervolume(values: FloatArray, keep: int) -> IntArray:
    """See `Selector`: front by front; in the front that does not fit, the least contributor is removed in turn."""
    ordered: list[IntArray] = []
    covered = 0
    for front in fronts(values, keep):
        ordered.append(_by_contribution(values, front, keep - covered) if covered < keep else front)
        covered += len(front)
    return np.concatenate(ordered)


def _by_contribution(values: FloatArray, front: IntArray, keep: int) -> IntArray:
    reference = np.full(values.shape[1], BEYOND)
    left, removed = front, []
    while len(left) > keep and values.shape[1] <= MOST_REMOVALS_OBJECTIVES:
        least = int(np.argmin(_contributions(values[left], reference)))
        removed.append(left[least])
        left = np.delete(left, least)
    kept = left[np.argsort(-_contributions(values[left], reference), kind="stable")]
    return np.concatenate([kept, np.array(removed[::-1], dtype=np.int64)])


def _contributions(values: FloatArray, reference: FloatArray) -> FloatArray:
    """(n,) contributions; points beyond the reference have none, and are told apart by how far beyond they are."""
    own = np.asarray(moocore.hv_contributions(values, ref=reference), dtype=np.float64)
    return np.where(own > 0, own, -np.maximum(values - reference, 0).sum(axis=1))

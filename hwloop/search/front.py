"""The best candidates: which are not dominated, and which few to show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

from hwloop.search.record import Evaluated

FloatArray = NDArray[np.float64]


def nondominated(values: FloatArray) -> NDArray[np.bool_]:
    """Which of (n, m) points no other dominates, all objectives minimised; of equal points the first."""
    if not len(values):
        return np.zeros(0, dtype=np.bool_)
    keep: NDArray[np.bool_] = np.asarray(moocore.is_nondominated(values, keep_weakly=True), dtype=np.bool_)
    _, first = np.unique(values, axis=0, return_index=True)
    unique = np.zeros(len(values), dtype=np.bool_)
    unique[first] = True
    return keep & unique


def front_of(evaluated: Iterable[Evaluated]) -> tuple[Evaluated, ...]:
    """The non-dominated candidates, sorted by their objectives in order."""
    every = list(evaluated)
    if not every:
        return ()
    keep = nondominated(np.array([each.values for each in every], dtype=np.float64))
    chosen = [each for each, kept in zip(every, keep, strict=True) if kept]
    return tuple(sorted(chosen, key=lambda each: (each.values, each.candidate)))


def hypervolume(values: FloatArray, reference: FloatArray) -> float:
    """Share of the box between the origin and the reference point that (n, m) points dominate.

    Objectives are divided by the reference, so the result lies between 0 and 1 and does not depend on units.
    Points beyond the reference add nothing.
    """
    if not len(values):
        return 0.0
    return float(moocore.hypervolume(np.asarray(values / reference, dtype=np.float64), ref=np.ones(len(reference))))


def choose(front: Sequence[Evaluated], count: int, within: Mapping[int, float] | None = None) -> tuple[Evaluated, ...]:
    """A few networks that stand for a front.

    The network that is best in the first objective (the most accurate one), then the knee (nearest to the
    ideal point when every objective is scaled to its range on the front), then, one by one, the network
    farthest from all that were chosen. The order of the front decides ties, so the same front gives the same
    networks. With a count of 1 it is the knee.

    Args:
        front: non-dominated candidates.
        count: how many are wanted, at least 0; fewer come back when the front is smaller.
        within: largest value of an objective, by its position: only candidates that keep it are chosen,
            unless none does.

    Returns:
        The chosen, in the order of the front.
    """
    limits = within or {}
    kept = [c for c in front if all(c.values[position] <= limit for position, limit in limits.items())] or list(front)
    if count <= 0 or not kept:
        return ()
    values = np.array([candidate.values for candidate in kept], dtype=np.float64)
    span = values.max(axis=0) - values.min(axis=0)
    scaled = (values - values.min(axis=0)) / np.where(span > 0, span, 1)
    knee = int(np.argmin((scaled**2).sum(axis=1)))
    chosen = [knee] if count == 1 else list(dict.fromkeys([int(np.argmin(scaled[:, 0])), knee]))
    while len(chosen) < min(count, len(kept)):
        gaps = ((scaled[:, None, :] - scaled[None, chosen, :]) ** 2).sum(axis=2).min(axis=1)
        gaps[chosen] = -1
        chosen.append(int(np.argmax(gaps)))
    return tuple(kept[index] for index in sorted(chosen))

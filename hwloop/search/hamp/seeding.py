"""The first generation: a uniform ladder, greedy trade-offs and random points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwloop.search.structure import Cheap, Structure

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

GREEDY_SHARE = 4
"""One in so many of the first generation lies on a greedy path."""

MOST_STEPS = 400

TRIES = 100


def first_generation(
    size: int,
    low: IntArray,
    high: IntArray,
    structure: Structure,
    cheap: Cheap,
    rng: np.random.Generator,
    given: IntArray | None = None,
) -> IntArray:
    """Points to begin with.

    Args:
        size: how many are wanted.
        low: (v,) lower bounds.
        high: (v,) upper bounds.
        structure: of the variables.
        cheap: objectives that the greedy paths follow; without them there are none.
        rng: for the random ones.
        given: (k, v) points that come first; without them a ladder from the upper to the lower bounds does. Where they
            leave no room for the greedy ones, the last of them make it.

    Returns:
        (k, v) different canonical points, k <= size; fewer only when there are no more.
    """
    greedy = greedy_path(size // GREEDY_SHARE, low, high, structure, cheap)
    first = ladder(max(1, size // 4), low, high) if given is None else given
    kept = first[: max(1, size - len(greedy))]
    found: dict[tuple[int, ...], None] = {}
    for batch in (kept, greedy):
        found |= dict.fromkeys(tuple(map(int, row)) for row in structure.canonical(batch))
    for _ in range(TRIES):
        if len(found) >= size:
            break
        drawn = structure.canonical(rng.integers(low, high + 1, (size, len(low))))
        found |= dict.fromkeys(tuple(map(int, row)) for row in drawn)
    return np.array(list(found)[:size], dtype=np.int64)


def ladder(rungs: int, low: IntArray, high: IntArray) -> IntArray:
    """(rungs, v) points from the upper bounds to the lower ones, all variables in step; flags stay until the last."""
    shares = np.linspace(1, 0, rungs)[:, None] if rungs > 1 else np.ones((1, 1))
    points = np.rint(low + shares * (high - low)).astype(np.int64)
    flags = high - low == 1
    points[:, flags] = high[flags]
    return points


def greedy_path(count: int, low: IntArray, high: IntArray, structure: Structure, cheap: Cheap) -> IntArray:
    """Points on the way from the upper bounds down, each step the one that saves most for what it takes away.

    What a step takes away is its share of the variable's range; what it saves are the cheap objectives, each as a share
    of its value at the upper bounds. Expensive objectives are not asked for.

    Returns:
        (k, v) points, evenly spread over what they save, k <= count.
    """
    if not cheap.columns or count < 1:
        return np.zeros((0, len(low)), dtype=np.int64)
    span = np.maximum(high - low, 1)
    here = structure.canonical(high[None])[0]
    start = cheap.values(here[None])[0]
    scale = np.where(start > 0, start, 1.0)
    path, saved = [here], [0.0]
    for _ in range(MOST_STEPS):
        moves = _lower(here, low)
        if not len(moves):
            break
        there = structure.canonical(moves)
        gains = ((start - cheap.values(there)) / scale).sum(axis=1) - saved[-1]
        prices = ((here - moves) / span).sum(axis=1)
        best = int(np.argmax(gains / prices))
        if gains[best] <= 0:
            break
        here = there[best]
        path.append(here)
        saved.append(saved[-1] + float(gains[best]))
    goals = np.linspace(0, saved[-1], count + 1)[1:]
    places = np.unique(np.searchsorted(saved, goals).clip(0, len(path) - 1))
    return np.array([path[place] for place in places], dtype=np.int64)


def _lower(point: IntArray, low: IntArray) -> IntArray:
    """(k, v) points that have one variable lower, by any number of steps."""
    rows = []
    for place in np.flatnonzero(point > low):
        for value in range(int(low[place]), int(point[place])):
            row = point.copy()
            row[place] = value
            rows.append(row)
    return np.array(rows, dtype=np.int64).reshape(-1, len(point))

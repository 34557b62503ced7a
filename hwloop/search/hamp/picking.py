"""The few of many guesses that together promise the most hypervolume."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

from hwloop.search.hamp.selection.order import BEYOND

FloatArray = NDArray[np.float64]


def greedy_hypervolume(
    front: FloatArray, views: Sequence[FloatArray], count: int, near: Callable[[int, Sequence[int]], bool]
) -> list[int]:
    """Pick one by one whichever adds most to the hypervolume of the front and of those picked before.

    What a point adds can only shrink as others are picked, so an old value is an upper bound: few are computed anew.

    Args:
        front: (k, m) values that are known.
        views: each (n, m) guesses of the same n points; the views take turns.
        count: how many.
        near: whether a point is too near one of several others to be picked beside them.

    Returns:
        Places of the picked, the first first; fewer than `count` when no other adds anything.
    """
    low = front.min(axis=0)
    high = front.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    reference = np.full(front.shape[1], BEYOND)
    held = [(front - low) / span for _ in views]
    volumes = [float(moocore.hypervolume(points, ref=reference)) for points in held]
    queues: list[list[tuple[float, int, int]]] = []
    even = [(view - low) / span for view in views]
    for view, points, volume in zip(even, held, volumes, strict=True):
        gains = [_gain(points, row, volume, reference) for row in view]
        queue = [(-gain, place, 0) for place, gain in enumerate(gains) if gain > 0]
        heapq.heapify(queue)
        queues.append(queue)
    chosen: list[int] = []
    turn = 0
    while len(chosen) < count and any(queues):
        which = turn % len(views)
        turn += 1
        place = _next(queues[which], even[which], held[which], volumes[which], reference, chosen, near)
        if place is None:
            continue
        chosen.append(place)
        for index, view in enumerate(even):
            held[index] = np.vstack([held[index], view[place]])
            held[index] = held[index][moocore.is_nondominated(held[index])]
            volumes[index] = float(moocore.hypervolume(held[index], ref=reference))
    return chosen


def _next(
    queue: list[tuple[float, int, int]],
    view: FloatArray,
    held: FloatArray,
    volume: float,
    reference: FloatArray,
    chosen: list[int],
    near: Callable[[int, Sequence[int]], bool],
) -> int | None:
    while queue:
        _, place, age = heapq.heappop(queue)
        if place in chosen or (chosen and near(place, chosen)):
            continue
        if age == len(chosen):
            return place
        gain = _gain(held, view[place], volume, reference)
        if gain > 0:
            heapq.heappush(queue, (-gain, place, len(chosen)))
    return None


def _gain(held: FloatArray, point: FloatArray, volume: float, reference: FloatArray) -> float:
    if (point >= reference).any():
        return 0.0
    return float(moocore.hypervolume(np.vstack([held, point]), ref=reference)) - volume

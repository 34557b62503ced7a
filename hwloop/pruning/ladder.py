"""From a network to its smallest candidate in even steps: the plain rule that a wanted speed-up is looked up on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hwloop.pruning.candidate import Candidate
from hwloop.pruning.space import PruningSpace

RUNGS = 64
"""Shares that are tried; rungs that are the same candidate are one."""


def ladder(space: PruningSpace, block_order: Sequence[str] = ()) -> tuple[Candidate, ...]:
    """Return candidates from the base down, each with no width larger and no block more than the one before.

    One share says how much stays: of every width (to its nearest level), and of the blocks, of which those go first
    that are first in `block_order`.

    Args:
        space: of the network.
        block_order: names of the blocks that may go.
    """
    rungs = []
    for rung in range(RUNGS + 1):
        share = 1 - rung / RUNGS
        widths = [
            min(space.levels(index), key=lambda level: (abs(level - share * group.width), -level))
            for index, group in enumerate(space.groups)
        ]
        gone = set(block_order[: round((1 - share) * len(block_order))])
        rungs.append(space.candidate(widths, [block.name not in gone for block in space.blocks]))
    return tuple(dict.fromkeys(rungs))


def first_rung(count: int, reaches: Callable[[int], bool]) -> int | None:
    """Return the first of `count` rungs that reaches a goal, by bisection; None where not even the last does.

    `reaches` is asked about logarithmically many rungs. Where it is not monotone (latencies are measured, and fall in
    stairs), the rung that is returned reaches the goal, and the one before it that was asked about does not.
    """
    low, high = 0, count - 1
    if not reaches(high):
        return None
    while low < high:
        middle = (low + high) // 2
        if reaches(middle):
            high = middle
        else:
            low = middle + 1
    return low

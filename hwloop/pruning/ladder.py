"""From a network to its smallest candidate in even steps: the plain rule that a wanted speed-up is looked up on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hwloop.pruning.candidate import Candidate
from hwloop.pruning.space import PruningSpace

SHARES = 64
"""How finely the share of what stays falls."""


def ladder(space: PruningSpace, block_order: Sequence[str] = ()) -> tuple[Candidate, ...]:
    """Return candidates from the base down, each with one width smaller or one block fewer than the one before.

    A share that falls from 1 to 0 says how much stays: of every width (to its nearest level), and of the blocks, of
    which those go first that are first in `block_order`. What one share takes goes piece by piece, so that a wanted
    speed-up is not overshot by more than one of them.

    Args:
        space: of the network.
        block_order: names of the blocks that may go.
    """
    widths, gone = [group.width for group in space.groups], set[str]()
    rungs = [space.base]

    def step() -> None:
        rungs.append(space.candidate(widths, [block.name not in gone for block in space.blocks]))

    for taken in range(SHARES + 1):
        share = 1 - taken / SHARES
        for index, group in enumerate(space.groups):
            widths[index] = min(space.levels(index), key=lambda level: (abs(level - share * group.width), -level))
            step()
        for name in block_order[len(gone) : round((1 - share) * len(block_order))]:
            gone.add(name)
            step()
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

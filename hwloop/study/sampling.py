"""Which whole networks teach and judge the predictor."""

from __future__ import annotations

import random

from hwloop.pruning import PruningSpace

Widths = tuple[int, ...]


def sample_candidates(space: PruningSpace, count: int, seed: int) -> list[Widths]:
    """Candidates of all sizes: the base, the smallest, then random ones around evenly drawn overall sizes.

    Drawing every width on its own would give networks of middle size only.

    Returns:
        At most `count` distinct candidates (fewer when the space has fewer).
    """
    rng = random.Random(seed)
    levels = [space.levels(g) for g in range(len(space.groups))]
    found: dict[Widths, None] = {tuple(space.base): None, tuple(group[0] for group in levels): None}
    for _ in range(50 * count):
        if len(found) >= min(count, space.size):
            break
        size = rng.random()
        widths = []
        for group in levels:
            last = len(group) - 1
            widths.append(group[min(max(round(size * last + rng.gauss(0, 0.25 * last)), 0), last)])
        found.setdefault(tuple(widths))
    return list(found)[:count]

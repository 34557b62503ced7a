"""Which whole networks teach and judge the predictor."""

from __future__ import annotations

import random

from hwloop.pruning import Candidate, PruningSpace


def sample_candidates(space: PruningSpace, count: int, seed: int) -> list[Candidate]:
    """Candidates of all sizes: the base, the smallest, then random ones around evenly drawn overall sizes.

    Drawing every width and block on its own would give networks of middle size only.

    Returns:
        At most `count` distinct candidates (fewer when the space has fewer).
    """
    rng = random.Random(seed)
    levels = [space.levels(g) for g in range(len(space.groups))]
    found: dict[Candidate, None] = {space.base: None, space.smallest: None}
    for _ in range(50 * count):
        if len(found) >= min(count, space.size):
            break
        size = rng.random()
        widths = []
        for group in levels:
            last = len(group) - 1
            widths.append(group[min(max(round(size * last + rng.gauss(0, 0.25 * last)), 0), last)])
        share = rng.random() if space.blocks else 1.0
        found.setdefault(space.candidate(widths, [rng.random() < share for _ in space.blocks]))
    return list(found)[:count]

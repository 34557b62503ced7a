"""When a candidate is no longer worth further images: decisions only, no images.

A candidate is counted on growing subsets of the held-out images. It has lost as soon as even the lower confidence limit
of its error is above an error that it would have to reach (Maron and Moore 1994, "Hoeffding races", with Wilson's
interval, and the confidence shared out over all looks by Bonferroni's inequality).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hwloop.pruning.estimate import CONFIDENCE, ErrorEstimate, wilson_interval

FIRST_LOOK = 250
"""Images before the first look; fewer tell a good network from chance at most."""


def looks(n: int, first: int = FIRST_LOOK) -> tuple[int, ...]:
    """Return after how many of n images the error is looked at: `first`, doubled each time, and n."""
    sizes = []
    size = first
    while size < n:
        sizes.append(size)
        size *= 2
    return (*sizes, n)


def has_lost(errors: int, seen: int, limit: float, looks: int) -> bool:
    """Return whether a candidate's error is above a limit, beyond reasonable doubt.

    Args:
        errors: mistakes so far.
        seen: images so far.
        limit: the error that the candidate must reach.
        looks: how often the race is looked at in all, so that the chance to lose one wrongly stays 2.5 %.
    """
    return wilson_interval(errors, seen, 1 - (1 - CONFIDENCE) / looks)[0] > limit


def limit_of(costs: Sequence[float], known_costs: NDArray[np.float64], known: Sequence[ErrorEstimate]) -> float:
    """Return the error that a candidate must reach so as not to be dominated, beyond reasonable doubt.

    Args:
        costs: (k,) the candidate's other objectives, all minimised.
        known_costs: (n, k) those of the candidates that have been estimated.
        known: their n estimates.

    Returns:
        The least upper confidence limit among those that are nowhere costlier; 1 where there are none.
    """
    cheaper = np.all(np.asarray(known_costs, np.float64).reshape(len(known), len(costs)) <= np.asarray(costs), axis=1)
    return min((estimate.high for estimate, kept in zip(known, cheaper, strict=True) if kept), default=1.0)

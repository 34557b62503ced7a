"""How fast the device runs now, as against when the campaign was: one number, from networks that are measured now.

A shared machine, or a board in another room, runs everything a few per cent faster or slower an hour later, and a
correction that is taught by both sessions takes that for a trait of the networks. So what the earlier session measured
is brought to the pace of the later one first. The pace is what the later networks took over what the earlier ones say
of them, in the median, drawn towards 1 as far as few networks leave it open (the posterior mean of a normal prior).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

SPREAD = 0.03
"""How far one session's pace lies from another's, relative: 0.94 to 1.02 were seen on shared machines."""

FEWEST = 3
"""The median of fewer networks is no defence against a disturbed one: they tell no pace."""


def pace_of(ratios: FloatArray, spreads: FloatArray) -> float:
    """Return the later session's latencies over the earlier one's.

    Args:
        ratios: (k,) measured latency of the later networks over what the earlier session says of them.
        spreads: (k,) standard deviations of the ratios, relative.
    """
    if len(ratios) < FEWEST:
        return 1.0
    noise = float(np.median(spreads)) ** 2 / len(ratios)
    return 1 + SPREAD**2 / (SPREAD**2 + noise) * float(np.median(ratios) - 1)

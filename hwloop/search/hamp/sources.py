"""How many of a generation's candidates are bred, and how many the local search finds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

LEAST = 0.15
"""Share of a generation that each source always gets: one that does badly early may do well late."""

FORGET = 0.6


class Sources:
    """Shares of the two sources by what they gained per candidate lately.

    Attributes:
        credit: hypervolume gained per candidate, of the bred and of the searched.
    """

    def __init__(self) -> None:
        self.credit = np.zeros(2)

    def searched(self, size: int) -> int:
        """How many of so many candidates the local search is asked for."""
        total = self.credit.sum()
        share = float(self.credit[1] / total) if total > 0 else 0.5
        return round(size * float(np.clip(share, LEAST, 1 - LEAST)))

    def reward(self, gains: FloatArray, bred: NDArray[np.bool_]) -> None:
        """Credit a generation: (k,) gains, and which of the k candidates were bred."""
        for source, mine in enumerate((bred, ~bred)):
            if mine.any():
                self.credit[source] = FORGET * self.credit[source] + (1 - FORGET) * float(gains[mine].mean())

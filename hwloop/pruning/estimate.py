"""How many mistakes a pruned network makes: the number, with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

CONFIDENCE = 0.95


@dataclass(frozen=True)
class ErrorEstimate:
    """Mistakes of a candidate on held-out images.

    Attributes:
        fidelity: what was done to the candidate before they were counted; one of `FIDELITIES`.
        errors: images classified wrongly.
        n: of so many.
        seconds: what the estimate cost; not part of the comparison of two estimates.
        complete: all held-out images were seen; else the race was lost before.
    """

    fidelity: str
    errors: int
    n: int
    seconds: float
    complete: bool = True

    @property
    def error(self) -> float:
        """Return the share of images that were classified wrongly, 0 to 1."""
        return self.errors / self.n

    @property
    def low(self) -> float:
        """Return the lower end of the error's 95 % Wilson interval."""
        return wilson_interval(self.errors, self.n)[0]

    @property
    def high(self) -> float:
        """Return its upper end."""
        return wilson_interval(self.errors, self.n)[1]


def wilson_interval(errors: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the interval of a share (Wilson 1927), which stays in [0, 1] and is honest near both ends."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = errors / n
    square = z**2
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = z * math.sqrt(share * (1 - share) / n + square / (4 * n * n)) / (1 + square / n)
    return max(0.0, centre - half), min(1.0, centre + half)

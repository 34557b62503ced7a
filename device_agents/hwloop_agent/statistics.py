"""Robust summaries of a handful to a few thousand samples, with the standard library only."""

from __future__ import annotations

import math
import random
from typing import List, NamedTuple, Optional, Sequence

BOOTSTRAP_REPLICATES = 1000
# The smallest number of samples at which a percentile is worth printing when one sample may lie above it: the
# binomial bound of MLPerf LoadGen's early stopping at 99 % confidence (mlcommons/inference, early_stopping.cc).
P90_FLOOR = 64


class Interval(NamedTuple):
    """A confidence interval, in the unit of the samples."""

    low: float
    high: float


class Summary(NamedTuple):
    """One number for a set of samples, with what is needed to doubt it."""

    median: float
    low: float
    high: float
    mad: float
    minimum: float
    p90: Optional[float]
    n: int


def quantile(ordered: Sequence[float], fraction: float) -> float:
    """Return the `fraction` quantile of ascending samples, interpolated linearly (Hyndman and Fan's type 7)."""
    if not ordered:
        raise ValueError("no samples")
    position = fraction * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def median(samples: Sequence[float]) -> float:
    """Return the median of samples in any order."""
    return quantile(sorted(samples), 0.5)


def mad(samples: Sequence[float]) -> float:
    """Return the median absolute deviation from the median, not scaled to a normal's standard deviation."""
    centre = median(samples)
    return median([abs(sample - centre) for sample in samples])


def median_interval(ordered: Sequence[float], confidence: float = 0.95, seed: int = 0) -> Interval:
    """Return the percentile bootstrap interval of the median of samples in ascending order (Efron 1979).

    No resample is drawn: the m-th smallest of n draws with replacement is the sample at the m-th smallest of n uniform
    numbers, and that order statistic has the distribution Beta(m, n + 1 - m). One draw per replicate instead of n makes
    the check cheap enough to run between timed blocks. With an even n the two middle order statistics are drawn
    together: the gap from the lower one to 1 is filled by n - m uniforms, whose smallest is Beta(1, n - m).
    """
    n = len(ordered)
    if n < 2:
        return Interval(ordered[0], ordered[0])
    draw = random.Random(seed)
    middle = (n + 1) // 2
    medians: List[float] = []
    for _ in range(BOOTSTRAP_REPLICATES):
        place = draw.betavariate(middle, n + 1 - middle)
        value = ordered[min(int(place * n), n - 1)]
        if n % 2 == 0:
            upper = place + (1.0 - place) * (1.0 - (1.0 - draw.random()) ** (1.0 / (n - middle)))
            value = (value + ordered[min(int(upper * n), n - 1)]) / 2.0
        medians.append(value)
    medians.sort()
    outside = (1.0 - confidence) / 2.0
    return Interval(quantile(medians, outside), quantile(medians, 1.0 - outside))


def relative_width(interval: Interval, centre: float) -> float:
    """Return the whole width of `interval` over `centre`; infinite where the centre is zero."""
    return (interval.high - interval.low) / centre if centre > 0 else math.inf


def summarize(samples: Sequence[float], confidence: float = 0.95) -> Summary:
    """Return the summary of samples in any order; `p90` is None below `P90_FLOOR` samples."""
    ordered = sorted(samples)
    interval = median_interval(ordered, confidence)
    return Summary(
        median=quantile(ordered, 0.5),
        low=interval.low,
        high=interval.high,
        mad=mad(ordered),
        minimum=ordered[0],
        p90=quantile(ordered, 0.9) if len(ordered) >= P90_FLOOR else None,
        n=len(ordered),
    )

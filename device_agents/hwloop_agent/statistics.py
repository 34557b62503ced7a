"""Robust summaries of a handful to a few thousand samples, with the standard library only."""

from __future__ import annotations

import math
from typing import NamedTuple, Optional, Sequence, Tuple

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


def interval_ranks(n: int, confidence: float) -> Tuple[int, int]:
    """Return the places, from 0, of the two of `n` ordered samples that hold the true median with `confidence`.

    How many samples lie below the median is binomial with probability 1/2, whatever the distribution, so the narrowest
    pair that is as likely as asked is exact (Conover, Practical Nonparametric Statistics, 3.2). Below six samples no
    pair holds 95 %: it is then the first and the last.
    """
    outside = (1.0 - confidence) / 2.0
    # Ten standard deviations below the middle nothing is left that counts.
    below = max(int(n / 2.0 - 5.0 * math.sqrt(n)), 0)
    ways = math.lgamma(n + 1) - math.lgamma(below + 1) - math.lgamma(n - below + 1)
    likely, total = math.exp(ways - n * math.log(2.0)), 0.0
    while total + likely <= outside:
        total += likely
        likely *= (n - below) / (below + 1)
        below += 1
    low = max(below - 1, 0)
    return low, n - 1 - low


def median_interval(ordered: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return the interval of the median of samples in ascending order: between two of them, see `interval_ranks`.

    Not the bootstrap's: its percentile interval holds the true median in 92 % to 94 % of cases instead of 95 %, and,
    where the samples end as soon as it is narrow, in 88 % (`python -m tests.benchmarks trust --only null`).
    """
    low, high = interval_ranks(len(ordered), confidence)
    return Interval(ordered[low], ordered[high])


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

"""Samples of a process that never ran: drawn as a table's row says that its processes spread. Pure.

The median of the process is drawn around the row's latency, log-normally, with the spread of the row's own processes.
The samples lie around that median so that their interval is as wide as the row's.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

SAMPLES = 25
# The standard error of the median of n normal samples is 1.2533 sigma / sqrt(n); 1.96 of them to each side are 95 %.
WIDTH_OF_MEDIAN = 1.96 * 1.2533 / math.sqrt(SAMPLES)
NS_PER_MS = 1e6


@dataclass(frozen=True)
class Drawn:
    """One process.

    Attributes:
        samples_ns: per inference.
        low_ns: lower end of the interval of their median.
        median_ns: of the samples.
        high_ns: upper end.
    """

    samples_ns: tuple[int, ...]
    low_ns: float
    median_ns: float
    high_ns: float


def spread_between(process_medians_ms: Sequence[float]) -> float | None:
    """Return the relative standard deviation between processes; None where fewer than two were measured."""
    if len(process_medians_ms) < 2:
        return None
    return statistics.stdev(math.log(median) for median in process_medians_ms)


def draw(seed: str, low_ms: float, latency_ms: float, high_ms: float, spread: float) -> Drawn:
    """Draw one process.

    Args:
        seed: the same text draws the same process: a trial's id.
        low_ms: lower end of the row's interval.
        latency_ms: of the row.
        high_ms: upper end.
        spread: relative standard deviation between processes.
    """
    rng = random.Random(seed)
    median = latency_ms * NS_PER_MS * math.exp(rng.gauss(0, spread))
    half_width = (high_ms - low_ms) / (2 * latency_ms)
    raw = [math.exp(rng.gauss(0, half_width / WIDTH_OF_MEDIAN)) for _ in range(SAMPLES)]
    middle = statistics.median(raw)
    samples = tuple(max(round(median * one / middle), 1) for one in raw)
    found = float(statistics.median(samples))
    return Drawn(samples, found * low_ms / latency_ms, found, found * high_ms / latency_ms)

"""How the benchmarks time: a few repetitions, the median with its spread, never a single number."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def milliseconds(work: Callable[[], object], repetitions: int) -> list[float]:
    """Wall time of each repetition of `work`, in ms, after one that is not counted."""
    work()
    times = []
    for _ in range(repetitions):
        began = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - began))
    return times


def spread(times: list[float]) -> str:
    """Median with the range, for people."""
    return f"median {statistics.median(times):.2f} ms ({min(times):.2f}–{max(times):.2f}, n={len(times)})"

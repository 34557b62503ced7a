"""Several rows of one layer (its history) as one number. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Measured(NamedTuple):
    """What a usable row says about its latency.

    Attributes:
        status: ok or degraded.
        low_ms: lower end of its interval.
        latency_ms: positive.
        high_ms: upper end.
    """

    status: str
    low_ms: float
    latency_ms: float
    high_ms: float


def pooled(rows: Sequence[Measured]) -> Measured:
    """The median of the ok rows, else of the degraded ones; its interval covers every used row's latency.

    Args:
        rows: at least one.
    """
    ok = [row for row in rows if row.status == "ok"]
    used = ok or rows
    latencies = [row.latency_ms for row in used]
    return Measured(
        "ok" if ok else "degraded",
        min(statistics.median(row.low_ms for row in used), *latencies),
        statistics.median(latencies),
        max(statistics.median(row.high_ms for row in used), *latencies),
    )

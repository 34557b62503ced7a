"""The clocks that a table was measured at: what two tables must share before their rows may stand side by side.

A latency at 600 MHz and one at 1500 MHz are two different things, whatever else is equal. The governor is compared by
name, the clock by its band: the middle half of what the rows say, so that one row that was read between two clock
changes says nothing about the others. Unknown is never "the same": a table whose clock nobody knows differs from one
whose clock is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hwloop.tables.records import usable

TOLERANCE = 1.06
"""Bands whose near ends differ by less than this factor are one (the tolerance of the agent's pace)."""

QUANTILES = (0.25, 0.75)

FIELDS = ("governor", "clock")
"""What can differ; names for `LatencyTable.merge`'s `mix`."""


@dataclass(frozen=True)
class Clocks:
    """What the usable rows of a table say.

    Attributes:
        governors: every one that was seen; empty when unknown.
        band_mhz: lower and upper quartile of the clock; None when unknown.
    """

    governors: frozenset[str]
    band_mhz: tuple[float, float] | None

    def differences(self, other: Clocks) -> dict[str, str]:
        """What two tables differ in, by field of `FIELDS`, as "clock (600 MHz / 1500 MHz)"."""
        found = {}
        if self.governors != other.governors:
            found["governor"] = f"governor ({_names(self.governors)} / {_names(other.governors)})"
        if not _near(self.band_mhz, other.band_mhz):
            found["clock"] = f"clock ({_band(self.band_mhz)} / {_band(other.band_mhz)})"
        return found


def clocks_of(table: Any) -> Clocks | None:
    """The clocks of a `pyarrow.Table` of `SCHEMA`; None when it has no usable row, which nothing was measured at."""
    rows = usable(table)
    if not len(rows):
        return None
    clocks = rows["clock_mhz"].drop_null().to_numpy()
    band = None
    if len(clocks):
        low, high = np.quantile(clocks, QUANTILES)
        band = (float(low), float(high))
    return Clocks(frozenset(rows["governor"].drop_null().unique().to_pylist()), band)


def _near(mine: tuple[float, float] | None, theirs: tuple[float, float] | None) -> bool:
    if mine is None or theirs is None:
        return mine == theirs
    return mine[0] <= theirs[1] * TOLERANCE and theirs[0] <= mine[1] * TOLERANCE


def _names(governors: frozenset[str]) -> str:
    return ", ".join(sorted(governors)) or "unknown"


def _band(band: tuple[float, float] | None) -> str:
    if band is None:
        return "unknown"
    low, high = (f"{value:.0f}" for value in band)
    return f"{low} MHz" if low == high else f"{low}–{high} MHz"

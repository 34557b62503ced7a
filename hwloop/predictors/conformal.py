"""Intervals with a coverage that holds without assumptions on the errors, but for exchangeability.

*CV+ and jackknife+* (Barber, Candès, Ramdas, Tibshirani 2021, "Predictive inference with the jackknife+", sections 2
and 3): every measured network is predicted by a model fitted without it (from `FOLDS` networks on, without its fold),
and these residuals bound the predictions of new ones. Covers at least 1 - 2 alpha, and about 1 - alpha in practice.
Few whole networks are measured, so none is given away to calibrate alone, as split conformal prediction would.

Residuals are relative, since the error of a latency grows with the latency, and in units of the spread that the model
expects of a network (Lei et al. 2018, section 5.2), so that a network unlike the measured ones gets a wider interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hwloop.errors import UserError

FloatArray = NDArray[np.float64]

Method = Literal["none", "jackknife+"]

FOLDS = 10
"""So many times the model is fitted again to find residuals; with fewer networks, once without each."""


@dataclass(frozen=True)
class Coverage:
    """What an interval promises.

    Attributes:
        nominal: the coverage that was asked for.
        method: ``none`` or ``jackknife+``.
        calibration: how many residuals the width comes from.
        guaranteed: the share of new networks that the theorem promises, 0 without calibration.
        widest: there are too few residuals for the nominal coverage: the widest one is used.
    """

    nominal: float
    method: Method = "none"
    calibration: int = 0
    guaranteed: float = 0.0
    widest: bool = False

    def __str__(self) -> str:
        if self.method == "none":
            return "interval not calibrated: no whole network was measured"
        text = (
            f"nominal {self.nominal:.0%} ({self.method}, {self.calibration} networks,"
            f" guaranteed {self.guaranteed:.0%} for networks drawn like these)"
        )
        return f"{text}; too few networks for it, the widest residual is used" if self.widest else text


def coverage_of(nominal: float, method: Method, calibration: int) -> Coverage:
    """What `calibration` residuals can promise.

    Raises:
        UserError: the nominal coverage is not between 0 and 1.
    """
    if not 0 < nominal < 1:
        raise UserError(f"the coverage of an interval lies between 0 and 1, got {nominal}")
    if method == "none" or calibration == 0:
        return Coverage(nominal)
    widest = not is_enough(calibration, nominal)
    # With the widest residual the level reached is n / (n + 1), whatever was asked for.
    level = calibration / (calibration + 1) if widest else nominal
    return Coverage(nominal, method, calibration, max(0.0, 2 * level - 1), widest)


def conformal_rank(count: int, nominal: float) -> int:
    """Which of n sorted residuals bounds a new one at the nominal level: ceil((n + 1) * nominal), from 1.

    A result above n means that no finite residual does.
    """
    # The margin keeps (n + 1) * nominal from passing a whole number by rounding alone: 0.9 * 10 is 9.
    return math.ceil((count + 1) * nominal - 1e-9)


def is_enough(count: int, nominal: float) -> bool:
    """Whether n residuals bound a new one at the nominal level."""
    return conformal_rank(count, nominal) <= count


def jackknife_plus(
    predictions: FloatArray, residuals: FloatArray, spreads: FloatArray, nominal: float
) -> tuple[FloatArray, FloatArray]:
    """The interval of each candidate.

    Args:
        predictions: (k, n): candidate j as predicted by the model fitted without network i.
        residuals: (k,) absolute residual of network i under that model, relative to its prediction and in units of
            the relative spread that the model expected of it.
        spreads: (n,) the relative spread that is expected of each candidate.
        nominal: coverage.

    Returns:
        (n,) lower and (n,) upper ends.
    """
    count = len(residuals)
    rank = min(conformal_rank(count, nominal), count)
    widths = residuals[:, None] * spreads
    lows = np.partition(predictions * (1 - widths), count - rank, axis=0)[count - rank]
    highs = np.partition(predictions * (1 + widths), rank - 1, axis=0)[rank - 1]
    return lows, highs


def folds(count: int) -> list[NDArray[np.int64]]:
    """Positions of `count` networks in at most `FOLDS` parts of about one size."""
    return [np.arange(start, count, min(FOLDS, count)) for start in range(min(FOLDS, count))]

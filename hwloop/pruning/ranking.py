"""Whether an estimate ranks candidates as their training to the end does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from hwloop.errors import UserError

FEWEST = 4
"""Fewer candidates have so few orders that their agreement says nothing."""


@dataclass(frozen=True)
class Agreement:
    """How two rankings agree.

    Attributes:
        tau: Kendall's tau-b, -1 to 1; nan where all candidates are equal in one of the two.
        low: lower end of its 95 % bootstrap interval over the candidates.
        high: upper end.
        n: candidates.
    """

    tau: float
    low: float
    high: float
    n: int


def agreement(estimates: Sequence[float], truth: Sequence[float], *, resamples: int = 2000, seed: int = 0) -> Agreement:
    """Compare two rankings of the same candidates.

    Args:
        estimates: (n,) cheap errors.
        truth: (n,) dear ones of the same candidates.
        resamples: of the bootstrap (Efron 1979; percentiles). Candidates are drawn anew; a pair of one candidate with
            itself is a tie in both and does not count in tau-b.
        seed: of the draws.

    Raises:
        UserError: Fewer than `FEWEST` candidates.
    """
    first, second = np.asarray(estimates, np.float64), np.asarray(truth, np.float64)
    n = len(first)
    if n < FEWEST:
        raise UserError(f"{n} candidates were ranked: at least {FEWEST} are needed for a rank correlation")
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(n, size=n) for _ in range(resamples)]
    taus = np.array([_tau(first[rows], second[rows]) for rows in drawn])
    finite = taus[np.isfinite(taus)]
    low, high = np.quantile(finite, [0.025, 0.975]) if len(finite) else (np.nan, np.nan)
    return Agreement(_tau(first, second), float(low), float(high), n)


def _tau(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(kendalltau(first, second).statistic)

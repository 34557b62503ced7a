"""Intervals cover what they promise, and say when they cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwloop.errors import UserError
from hwloop.predictors import Coverage
from hwloop.predictors.conformal import FOLDS, conformal_rank, coverage_of, folds, jackknife_plus


@pytest.mark.parametrize(
    ("count", "nominal", "rank"), [(9, 0.9, 9), (10, 0.9, 10), (19, 0.9, 18), (99, 0.9, 90), (8, 0.9, 9)]
)
def test_the_rank_is_the_small_sample_quantile(count: int, nominal: float, rank: int) -> None:
    assert conformal_rank(count, nominal) == rank


def test_with_too_few_residuals_the_widest_is_used_and_said() -> None:
    coverage = coverage_of(0.9, "jackknife+", 5)
    assert coverage.widest
    assert coverage.guaranteed == pytest.approx(2 * 5 / 6 - 1)
    assert "too few networks for it, the widest residual is used" in str(coverage)
    low, high = jackknife_plus(np.ones((3, 1)), np.array([0.1, 0.4, 0.2]), np.ones(1), 0.9)
    assert (low[0], high[0]) == pytest.approx((0.6, 1.4))


def test_enough_residuals_promise_the_nominal_coverage() -> None:
    assert coverage_of(0.9, "jackknife+", 30) == Coverage(0.9, "jackknife+", 30, pytest.approx(0.8), False)


def test_nothing_measured_promises_nothing() -> None:
    assert coverage_of(0.9, "none", 0).guaranteed == 0
    assert "not calibrated" in str(coverage_of(0.9, "none", 0))


@pytest.mark.parametrize("nominal", [0.0, 1.0, -0.1, 90.0])
def test_a_coverage_outside_zero_and_one_is_refused(nominal: float) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        coverage_of(nominal, "jackknife+", 10)


def test_intervals_of_equal_predictions_cover_at_least_the_nominal_share_on_average() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        residuals = np.abs(rng.standard_t(3, 30)) / 20
        low, high = jackknife_plus(np.ones((30, 1)), residuals, np.ones(1), 0.9)
        new = 1 + rng.standard_t(3, 50) / 20
        covered.append(((low <= new) & (new <= high)).mean())
    assert 0.89 <= float(np.mean(covered)) <= 0.93


def test_the_interval_matches_its_definition_and_goes_with_the_spread() -> None:
    rng = np.random.default_rng(2)
    predictions, residuals, spreads = rng.uniform(1, 2, (19, 5)), rng.uniform(0, 2, 19), rng.uniform(0.01, 0.1, 5)
    low, high = jackknife_plus(predictions, residuals, spreads, 0.9)
    for column in range(5):
        lows = sorted(predictions[:, column] * (1 - residuals * spreads[column]))
        highs = sorted(predictions[:, column] * (1 + residuals * spreads[column]))
        assert low[column] == lows[1]  # floor(0.1 * 20) = 2nd smallest
        assert high[column] == highs[17]  # ceil(0.9 * 20) = 18th smallest


@given(st.integers(1, 60))
def test_every_network_is_in_one_fold(count: int) -> None:
    parts = folds(count)
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))
    assert len(parts) == min(FOLDS, count)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1

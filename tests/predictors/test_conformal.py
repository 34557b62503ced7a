"""Intervals cover what they promise, and say when they cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwloop.errors import UserError
from hwloop.predictors import Coverage
from hwloop.predictors.conformal import conformal_rank, coverage_of, jackknife_plus, split_half_width


@pytest.mark.parametrize(
    ("count", "nominal", "rank"), [(9, 0.9, 9), (10, 0.9, 10), (19, 0.9, 18), (99, 0.9, 90), (8, 0.9, 9)]
)
def test_the_rank_is_the_small_sample_quantile(count: int, nominal: float, rank: int) -> None:
    assert conformal_rank(count, nominal) == rank


def test_with_too_few_residuals_the_widest_is_used_and_said() -> None:
    coverage = coverage_of(0.9, "split", 5)
    assert coverage.widest
    assert coverage.guaranteed == pytest.approx(5 / 6)
    assert "too few networks for it, the widest residual is used" in str(coverage)
    assert split_half_width(np.array([0.1, -0.4, 0.2]), 0.9) == 0.4


def test_enough_residuals_promise_the_nominal_coverage() -> None:
    assert coverage_of(0.9, "split", 30) == Coverage(0.9, "split", 30, 0.9, False)
    assert coverage_of(0.9, "jackknife+", 30).guaranteed == pytest.approx(0.8)


def test_nothing_measured_promises_nothing() -> None:
    assert coverage_of(0.9, "none", 0).guaranteed == 0
    assert "not calibrated" in str(coverage_of(0.9, "none", 0))


@pytest.mark.parametrize("nominal", [0.0, 1.0, -0.1, 90.0])
def test_a_coverage_outside_zero_and_one_is_refused(nominal: float) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        coverage_of(nominal, "split", 10)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.5, 0.99))
def test_the_half_width_covers_the_promised_share_of_its_own_residuals(residuals: list[float], nominal: float) -> None:
    values = np.array(residuals)
    width = split_half_width(values, nominal)
    assert width in values
    assert (values <= width).mean() >= min(nominal, len(values) / (len(values) + 1))


def test_split_intervals_cover_at_least_the_nominal_share_on_average() -> None:
    rng = np.random.default_rng(0)
    covered = [
        (np.abs(rng.standard_t(3, 50)) <= split_half_width(rng.standard_t(3, 30), 0.9)).mean() for _ in range(400)
    ]
    assert 0.89 <= float(np.mean(covered)) <= 0.93


def test_the_jackknife_interval_matches_its_definition() -> None:
    rng = np.random.default_rng(2)
    predictions, residuals = rng.uniform(1, 2, (19, 5)), rng.uniform(0, 0.2, 19)
    low, high = jackknife_plus(predictions, residuals, 0.9)
    for column in range(5):
        lows = sorted(predictions[:, column] * (1 - residuals))
        highs = sorted(predictions[:, column] * (1 + residuals))
        assert low[column] == lows[1]  # floor(0.1 * 20) = 2nd smallest
        assert high[column] == highs[17]  # ceil(0.9 * 20) = 18th smallest

"""Rankings are compared as the textbook does, and honestly where there is little to compare."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from hwloop.errors import UserError
from hwloop.pruning import agreement


def test_the_same_order_agrees_and_the_opposite_order_does_not() -> None:
    values = [0.1, 0.3, 0.2, 0.5, 0.4]
    same = agreement(values, [10 * value for value in values])
    assert (same.tau, same.low, same.high) == pytest.approx((1.0, 1.0, 1.0))
    assert same.n == 5
    assert agreement(values, [-value for value in values]).tau == pytest.approx(-1.0)


def test_tau_is_scipys_and_lies_in_its_interval() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(20)
    noisy = truth + rng.normal(0, 0.3, 20)
    found = agreement(noisy, truth)
    assert found.tau == kendalltau(noisy, truth).statistic
    assert found.low < found.tau < found.high
    assert found == agreement(noisy, truth)
    assert found != agreement(noisy, truth, seed=1)


def test_more_candidates_narrow_the_interval() -> None:
    rng = np.random.default_rng(1)
    widths = []
    for n in (8, 80):
        truth = rng.random(n)
        found = agreement(truth + rng.normal(0, 0.2, n), truth)
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2


def test_what_has_no_order_has_no_tau() -> None:
    found = agreement([0.9, 0.9, 0.9, 0.9], [0.1, 0.2, 0.3, 0.4])
    assert math.isnan(found.tau)
    assert math.isnan(found.low)
    with pytest.raises(UserError, match="3 candidates were ranked: at least 4"):
        agreement([1, 2, 3], [1, 2, 3])

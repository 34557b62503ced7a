"""A race is lost when it is certain, and not before."""

from __future__ import annotations

import numpy as np
import pytest

from hwloop.pruning import ErrorEstimate, has_lost, limit_of, looks, wilson_interval


def test_the_looks_double_and_end_with_all_images() -> None:
    assert looks(2000) == (250, 500, 1000, 2000)
    assert looks(2300) == (250, 500, 1000, 2000, 2300)
    assert looks(250) == (250,)
    assert looks(7) == (7,)


def test_one_look_is_the_plain_interval_and_more_looks_are_more_careful() -> None:
    low = wilson_interval(60, 250)[0]
    assert has_lost(60, 250, low - 1e-9, 1)
    assert not has_lost(60, 250, low + 1e-9, 1)
    assert not has_lost(60, 250, low - 1e-9, 4)
    assert has_lost(250, 250, 0.9, 4)
    assert not has_lost(250, 250, 1.0, 4)


def test_candidates_as_good_as_the_limit_are_rarely_stopped() -> None:
    rng = np.random.default_rng(0)
    planned = looks(4000)
    lost = 0
    for _ in range(400):
        wrong = np.cumsum(rng.random(4000) < 0.2)
        lost += any(has_lost(int(wrong[size - 1]), size, 0.2, len(planned)) for size in planned)
    assert lost / 400 <= 0.025


def test_the_limit_is_the_best_of_those_that_are_nowhere_costlier() -> None:
    known = [ErrorEstimate("recalibrated", errors, 1000, 0.0) for errors in (100, 200, 50)]
    costs = np.array([[2.0, 1.0], [1.0, 1.0], [5.0, 0.5]])
    assert limit_of([2.0, 1.0], costs, known) == known[0].high
    assert limit_of([1.5, 2.0], costs, known) == known[1].high
    assert limit_of([9.0, 9.0], costs, known) == known[2].high
    assert limit_of([0.5, 0.5], costs, known) == 1.0
    assert limit_of([0.5, 0.5], np.zeros((0, 2)), []) == 1.0


def test_the_interval_narrows_with_the_confidence() -> None:
    wide, narrow = wilson_interval(30, 100), wilson_interval(30, 100, 0.5)
    assert wide[0] < narrow[0] < 0.3 < narrow[1] < wide[1]
    estimate = ErrorEstimate("recalibrated", 30, 100, 0.0)
    assert (estimate.low, estimate.high) == pytest.approx(wide)

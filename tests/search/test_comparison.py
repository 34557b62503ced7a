"""The statistics of a comparison, against what can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hwloop.search.comparison import attainment, hypervolume_curve, share_to_reach, signed_rank, standings
from hwloop.search.front import hypervolume


def test_a_curve_is_the_hypervolume_of_everything_so_far() -> None:
    values = np.random.default_rng(0).uniform(0, 1.2, (60, 3))
    values[10] = values[3]
    reference = np.array([1.0, 1.1, 0.9])
    curve = hypervolume_curve(values, reference)
    assert curve.tolist() == pytest.approx([hypervolume(values[: n + 1], reference) for n in range(60)])
    assert (np.diff(curve) >= 0).all()


def test_what_was_reached_counts_from_one() -> None:
    rival = np.array([0.1, 0.2, 0.2, 0.4])
    assert share_to_reach(np.array([0.1, 0.4, 0.5, 0.6]), rival) == 0.5
    assert share_to_reach(np.array([0.5]), rival) == 0.25
    assert share_to_reach(np.array([0.1, 0.3, 0.3, 0.39]), rival) == float("inf")


def test_seven_of_seven_is_significant_and_nothing_is_not() -> None:
    assert signed_rank([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]) == pytest.approx(2 / 2**7)
    assert signed_rank([0.0] * 7) == 1.0


def test_standings_are_paired_by_seed_and_sorted_by_the_median() -> None:
    slow = {seed: np.array([0.1, 0.2, 0.3 + seed / 100]) for seed in range(7)}
    fast = {seed: np.array([0.5, 0.6, 0.7 + seed / 100]) for seed in range(8)}
    first, second = standings({"slow": slow, "fast": fast, "never ran": {}}, "slow")
    assert (first.algorithm, second.algorithm) == ("fast", "slow")
    assert first.hypervolume == pytest.approx((0.7, 0.7175, 0.735, 0.7525, 0.77))
    assert first.p_value == pytest.approx(2 / 2**7)
    assert first.share_to_reach == pytest.approx(1 / 3)
    assert (second.p_value, second.share_to_reach) == (None, None)
    assert standings({"fast": fast}, None)[0].p_value is None


def test_the_median_line_is_attained_by_half_of_the_runs() -> None:
    runs = [np.array([[0.0, 3.0], [2.0, 1.0]]), np.array([[1.0, 2.0]])]
    assert attainment(runs, 50).tolist() == [[0.0, 3.0], [1.0, 2.0], [2.0, 1.0]]
    assert attainment(runs, 100).tolist() == [[1.0, 3.0], [2.0, 2.0]]

"""The pace of a session, from networks that another session predicts."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hwloop.predictors.pace import FEWEST, pace_of


def test_a_disturbed_network_does_not_move_the_pace() -> None:
    ratios = np.array([0.95, 0.951, 0.949, 0.95, 3.0])
    assert abs(pace_of(ratios, np.full(5, 0.005)) - 0.95) < 0.002


def test_few_and_noisy_networks_are_believed_less() -> None:
    ratios = np.full(3, 0.9)
    sure, unsure = pace_of(ratios, np.full(3, 0.002)), pace_of(ratios, np.full(3, 0.2))
    assert 0.9 <= sure < 0.901
    assert 0.98 < unsure < 1
    assert pace_of(np.full(FEWEST - 1, 0.5), np.full(FEWEST - 1, 0.001)) == 1
    assert pace_of(np.zeros(0), np.zeros(0)) == 1


@given(st.lists(st.floats(0.5, 2.0), min_size=FEWEST, max_size=30), st.floats(0.001, 0.5))
def test_the_pace_lies_between_none_and_what_was_seen(ratios: list[float], spread: float) -> None:
    seen = float(np.median(ratios))
    found = pace_of(np.array(ratios), np.full(len(ratios), spread))
    assert min(1, seen) - 1e-12 <= found <= max(1, seen) + 1e-12

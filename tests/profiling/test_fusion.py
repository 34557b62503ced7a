from __future__ import annotations

import math

import pytest

from hwloop.profiling import judge_pair


@pytest.mark.parametrize(
    ("joined_ms", "answer"),
    [(10.0, "fused"), (10.3, "fused"), (12.0, "apart"), (11.9, "apart"), (11.0, "undecided")],
)
def test_a_second_operation_that_costs_nothing_was_fused(joined_ms: float, answer: str) -> None:
    # Alone the second one takes 2 ms beyond the floor of 0.5 ms.
    assert judge_pair(10.0, 2.5, joined_ms, 0.5, 0.01).answer == answer


def test_noise_larger_than_the_second_operation_decides_nothing() -> None:
    found = judge_pair(10.0, 0.6, 10.0, 0.5, 0.02)
    assert (found.answer, found.share) == ("undecided", 0.0)
    assert found.margin > 1


def test_a_second_operation_below_the_floor_decides_nothing() -> None:
    found = judge_pair(10.0, 0.5, 10.0, 0.5, 0.0)
    assert found.answer == "undecided"
    assert math.isnan(found.share)

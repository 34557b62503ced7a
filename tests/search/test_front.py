"""Fronts hold what is not dominated; a choice spreads over them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwloop.pruning import Candidate
from hwloop.search import Evaluated, choose, front_of, nondominated
from hwloop.search.front import hypervolume

points = st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=40)


def made(values: list[tuple[float, ...]]) -> list[Evaluated]:
    return [Evaluated(f"c{i}", Candidate((i,)), tuple(map(float, v)), 0, 0.0) for i, v in enumerate(values)]


@given(points)
def test_the_filter_agrees_with_the_definition(values: list[tuple[int, ...]]) -> None:
    array = np.array(values, dtype=float)
    for index, kept in enumerate(nondominated(array)):
        dominated = ((array <= array[index]).all(axis=1) & (array < array[index]).any(axis=1)).any()
        earlier = (array[:index] == array[index]).all(axis=1).any()
        assert kept == (not dominated and not earlier)


def test_no_points_make_no_front() -> None:
    assert front_of([]) == ()
    assert nondominated(np.zeros((0, 3))).shape == (0,)


def test_the_front_is_sorted_by_its_objectives() -> None:
    front = front_of(made([(3, 1), (1, 3), (2, 2), (3, 3)]))
    assert [candidate.values for candidate in front] == [(1, 3), (2, 2), (3, 1)]


@given(points)
def test_the_hypervolume_counts_dominated_cells(values: list[tuple[int, ...]]) -> None:
    cells = np.array(np.meshgrid(*[np.arange(6)] * 3)).reshape(3, -1).T
    array = np.array(values)
    dominated = (cells[:, None, :] >= array[None]).all(axis=2).any(axis=1).mean()
    assert hypervolume(array.astype(float), np.full(3, 6.0)) == pytest.approx(dominated, abs=1e-12)


LINE = made([(0.0, 10.0), (0.1, 5.0), (0.2, 2.0), (0.3, 1.8), (0.6, 1.2), (1.0, 1.0)])


def test_a_choice_holds_the_most_accurate_and_the_knee() -> None:
    assert [candidate.text for candidate in choose(LINE, 2)] == ["c0", "c2"]
    assert [candidate.text for candidate in choose(LINE, 1)] == ["c2"]
    assert [candidate.text for candidate in choose(LINE, 3)] == ["c0", "c2", "c5"]


@given(points, st.integers(0, 12))
def test_a_choice_has_the_wanted_size_and_is_part_of_the_front(values: list[tuple[int, ...]], count: int) -> None:
    front = front_of(made(list(values)))
    chosen = choose(front, count)
    assert len(chosen) == min(count, len(front))
    assert [c for c in front if c in chosen] == list(chosen)
    assert choose(front, count) == chosen
    if count > 1:
        assert front[0].values[0] == min(c.values[0] for c in chosen)


def test_a_choice_can_be_kept_within_a_limit() -> None:
    assert {candidate.text for candidate in choose(LINE, 3, within={0: 0.25})} == {"c0", "c1", "c2"}
    assert len(choose(LINE, 3, within={1: 0.5})) == 3  # nothing keeps it: the limit is dropped

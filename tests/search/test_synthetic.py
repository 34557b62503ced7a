"""The synthetic problem is what it says, above all its front."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hwloop.search import SyntheticPruning
from hwloop.search.front import nondominated
from hwloop.search.synthetic import Stage

SMALL = (Stage(32, 1024, 2), Stage(64, 512, 1))


def everything(problem: SyntheticPruning) -> np.ndarray:
    return np.array(list(itertools.product(*[range(int(bound) + 1) for bound in problem.xu])))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_front_is_that_of_all_points(seed: int) -> None:
    problem = SyntheticPruning(seed, SMALL)
    values = problem.objectives(everything(problem)).round(12)
    best = values[nondominated(values)]
    assert sorted(map(tuple, best)) == sorted(set(map(tuple, problem.front.round(12))))


def test_no_point_of_the_large_problem_dominates_its_front() -> None:
    problem = SyntheticPruning(5)
    assert problem.n_var == 50
    rng = np.random.default_rng(0)
    points = problem.objectives(rng.integers(0, problem.xu.astype(int) + 1, (300, 50)))
    together = np.concatenate([problem.front, points, problem.base[None]])
    assert set(np.flatnonzero(nondominated(together))) <= set(range(len(problem.front)))


def test_the_width_of_a_removed_block_does_nothing() -> None:
    problem = SyntheticPruning(2, SMALL)
    points = everything(problem)[:400]
    canonical = problem.canonical(points)
    assert (problem.objectives(canonical) == problem.objectives(points)).all()
    assert (problem.canonical(canonical) == canonical).all()
    assert len(np.unique(canonical, axis=0)) < len(points)


def test_what_it_says_is_cheap_is_what_an_evaluation_gives() -> None:
    problem = SyntheticPruning(3, noise=0.01)
    points = np.random.default_rng(1).integers(0, problem.xu.astype(int) + 1, (20, 50))
    values = problem.evaluate(points, return_values_of=["F"])
    assert (problem.cheap.values(points) == values[:, list(problem.cheap.columns)]).all()
    assert (values == problem.evaluate(points, return_values_of=["F"])).all()  # the noise is the point's own
    assert (values[:, 0] != problem.objectives(points)[:, 0]).all()


def test_every_variable_is_in_one_unit_and_a_flag_beside_its_width() -> None:
    problem = SyntheticPruning(4)
    places = [place for unit in problem.structure.units for place in unit]
    assert sorted(places) == list(range(50))
    assert {len(unit) for unit in problem.structure.units} == {1, 2}
    assert all(problem.xu[unit[-1]] == 1 for unit in problem.structure.units if len(unit) == 2)

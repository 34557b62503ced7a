"""HAMP as pymoo's users meet it: on problems that know nothing of hwloop."""

from __future__ import annotations

import pickle
from typing import Any

import moocore
import numpy as np
import pytest
from pymoo.core.problem import Problem
from pymoo.optimize import minimize
from pymoo.util.display.output import Output

from hwloop.errors import UserError
from hwloop.search.hamp import HAMP, SELECTORS, LocalSearch
from hwloop.search.structure import Cheap, Structure
from hwloop.search.synthetic import Stage, SyntheticPruning

SMALL = (Stage(32, 1024, 3), Stage(64, 512, 3))
QUICK = LocalSearch(rounds=3, walkers=20, pairs=20)


class Knapsack(Problem):  # type: ignore[misc]
    """Two values of thirty things to take or leave, within a weight."""

    def __init__(self, limit: float | None = None) -> None:
        rng = np.random.default_rng(1)
        first = rng.uniform(0, 1, 30)
        self.worth = np.stack([first, 1 - first + rng.uniform(0, 0.3, 30)], axis=1)
        self.weight, self.limit = rng.uniform(0, 1, 30), limit
        super().__init__(n_var=30, n_obj=2, n_ieq_constr=int(limit is not None), xl=0, xu=1, vtype=int)

    def _evaluate(self, x: np.ndarray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        out["F"] = -x @ self.worth + (0 if self.limit is not None else (x @ self.weight)[:, None])
        if self.limit is not None:
            out["G"] = (x @ self.weight - self.limit)[:, None]


def volume(values: np.ndarray, problem: SyntheticPruning) -> float:
    return float(moocore.hypervolume(values / problem.base, ref=np.array([12.0, 1.1, 1.1])))


@pytest.mark.parametrize("options", [{}, {"local_search": None}, {"selectors": {"crowding": SELECTORS["crowding"]}}])
def test_the_same_seed_gives_the_same_points_and_no_point_twice(options: dict[str, Any]) -> None:
    def run(seed: int) -> np.ndarray:
        algorithm = HAMP(12, **({"local_search": QUICK} | options))
        minimize(SyntheticPruning(1, SMALL), algorithm, ("n_eval", 60), seed=seed, copy_algorithm=False)
        return np.asarray(algorithm.evaluated.x)

    first = run(3)
    assert len(first) == 60
    assert (first == run(3)).all()
    assert (first[12:] != run(4)[12:]).any()
    problem = SyntheticPruning(1, SMALL)
    assert len(np.unique(problem.canonical(first), axis=0)) == 60


def test_a_foreign_binary_problem_needs_nothing_but_bounds() -> None:
    problem = Knapsack()
    result = minimize(problem, HAMP(20, local_search=QUICK), ("n_eval", 200), seed=1)
    by_chance = problem.evaluate(np.random.default_rng(0).integers(0, 2, (2000, 30)), return_values_of=["F"])
    reference = np.zeros(2)
    assert moocore.hypervolume(result.F, ref=reference) > moocore.hypervolume(by_chance, ref=reference)
    assert result.X.dtype.kind == "i"
    assert moocore.is_nondominated(result.F, keep_weakly=True).all()


def test_constraints_are_kept() -> None:
    result = minimize(Knapsack(limit=4.0), HAMP(20, local_search=QUICK), ("n_eval", 200), seed=1)
    assert len(result.F) > 1
    assert (result.X @ Knapsack().weight <= 4.0).all()


def test_where_nothing_is_feasible_the_least_violation_leads() -> None:
    algorithm = HAMP(10, local_search=QUICK)
    minimize(Knapsack(limit=-1.0), algorithm, ("n_eval", 100), seed=1, copy_algorithm=False)
    least = np.sort(algorithm.evaluated.violation)
    assert np.sort(algorithm.pop.get("CV")[:, 0]).tolist() == least[:10].tolist()
    assert least[0] < algorithm.evaluated.violation[:10].min()


def test_every_part_brings_something_over_random_points() -> None:
    problem = SyntheticPruning(6, SMALL)
    rng = np.random.default_rng(2)
    by_chance = problem.objectives(rng.integers(0, problem.xu.astype(int) + 1, (120, problem.n_var)))
    bred = minimize(problem, HAMP(20, local_search=None), ("n_eval", 120), seed=2).F
    searched = minimize(problem, HAMP(20, local_search=QUICK), ("n_eval", 120), seed=2).F
    assert (
        volume(by_chance, problem) < volume(bred, problem) < volume(searched, problem) < volume(problem.front, problem)
    )


def test_surrogates_guess_only_what_is_not_cheap() -> None:
    problem = SyntheticPruning(1, SMALL)
    cheap, dear = HAMP(10), HAMP(10, cheap=Cheap())
    for algorithm in (cheap, dear):
        algorithm.setup(problem, seed=1)
    assert set(cheap.walk.models) == {0}
    assert set(dear.walk.models) == {0, 1, 2}


def test_a_problem_without_structure_has_units_of_one() -> None:
    assert Structure.of(Knapsack()).units == tuple((place,) for place in range(30))


def test_a_search_goes_on_from_a_pickle_to_the_bit() -> None:
    problem = SyntheticPruning(1, SMALL)

    def generations(algorithm: Any, count: int) -> Any:
        for _ in range(count):
            infills = algorithm.ask()
            algorithm.evaluator.eval(problem, infills)
            algorithm.tell(infills=infills)
        return algorithm

    def fresh() -> Any:
        return HAMP(12, local_search=QUICK).setup(problem, termination=("n_gen", 99), seed=5)

    whole = generations(fresh(), 5)
    half = pickle.loads(pickle.dumps(generations(fresh(), 3)))
    assert (generations(half, 2).evaluated.x == whole.evaluated.x).all()


def test_corrected_values_decide_from_then_on() -> None:
    problem = SyntheticPruning(1, SMALL)
    algorithm = HAMP(12, local_search=None).setup(problem, termination=("n_gen", 99), seed=5)
    infills = algorithm.ask()
    algorithm.evaluator.eval(problem, infills)
    algorithm.tell(infills=infills)
    worst = int(np.setdiff1d(np.arange(len(infills)), algorithm.evaluated.front)[0])
    algorithm.everything[worst].F = np.array([0.0, 0.0, 0.0])
    algorithm.refreshed()
    assert algorithm.evaluated.front.tolist() == [worst]


def test_a_space_that_is_used_up_ends_the_search() -> None:
    problem = SyntheticPruning(1, (Stage(32, 1024, 1),))
    algorithm = HAMP(20, local_search=QUICK)
    minimize(problem, algorithm, ("n_eval", 1000), seed=1, copy_algorithm=False)
    assert len(algorithm.evaluated) == 64


@pytest.mark.parametrize(
    ("bounds", "text"),
    [({}, "lower and upper bounds"), ({"xl": 0.5, "xu": 3}, "whole numbers"), ({"xl": 0, "xu": np.inf}, "finite")],
)
def test_bounds_that_are_no_integers_are_refused(bounds: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        HAMP(10).setup(Problem(n_var=3, n_obj=2, **bounds))


def test_one_objective_is_refused() -> None:
    with pytest.raises(UserError, match="at least 2 objectives, this has 1"):
        HAMP(10).setup(Problem(n_var=3, n_obj=1, xl=0, xu=3))


def test_a_population_of_one_is_refused() -> None:
    with pytest.raises(UserError, match="at least 2"):
        HAMP(1)


class Failing(SyntheticPruning):
    """Cannot evaluate what keeps the whole first stage; the values it gives then would lead any search astray."""

    def fails(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x[:, 0] == self.xu[0])

    def _evaluate(self, x: np.ndarray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super()._evaluate(x, out)
        out["failed"] = self.fails(x)
        out["F"][out["failed"]] = 0.0


def test_what_could_not_be_evaluated_teaches_nothing_is_not_kept_and_not_asked_for_again() -> None:
    problem, asked = Failing(1, SMALL), []
    algorithm = HAMP(12, local_search=QUICK)
    algorithm.setup(problem, seed=2, output=Output())
    while len(asked) < 120:
        infills = algorithm.ask()
        algorithm.evaluator.eval(problem, infills)
        asked += [row.tobytes() for row in problem.canonical(infills.get("X").astype(np.int64))]
        algorithm.tell(infills=infills)
        assert not problem.fails(algorithm.pop.get("X")).any()
    learnt = algorithm.evaluated
    assert len(asked) == len(set(asked)) > len(learnt) > 0
    assert not problem.fails(learnt.x).any()
    assert not problem.fails(algorithm.opt.get("X")).any()
    assert (learnt.f == problem.objectives(learnt.x)).all()


def test_a_first_generation_of_failures_does_not_end_the_search() -> None:
    problem = Failing(1, SMALL)
    ladder = np.tile(problem.xu, (4, 1))
    ladder[:, 1] = range(4)
    algorithm = HAMP(4, sampling=ladder, local_search=None, cheap=Cheap())
    minimize(problem, algorithm, ("n_eval", 40), seed=1, copy_algorithm=False)
    assert 0 < len(algorithm.evaluated) < 40

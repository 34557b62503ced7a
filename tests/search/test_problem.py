"""Levels and widths, the first generation, and the registry of algorithms."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwloop.errors import UserError
from hwloop.pruning import Candidate
from hwloop.search import PruningProblem, initial_indices, list_algorithms, make_algorithm, nondominated
from hwloop.search.algorithms import register
from hwloop.search.front import hypervolume


def problem(toy: Any, **space: Any) -> PruningProblem:
    model = toy.Model()

    def assess(candidates: list[Candidate]) -> np.ndarray:
        errors = [toy.error_of(candidate) for candidate in candidates]
        return np.column_stack([errors, model.predict([each.widths for each in candidates]).latency_ms])

    return PruningProblem(toy.Space(**space), ("error", "latency_ms"), assess)


def test_the_last_level_of_every_group_is_the_base_network(toy: Any) -> None:
    made = problem(toy)
    assert made.candidates(made.xu[None].astype(np.int64)) == [toy.Space().base]
    assert made.size == 2 * 4 * 4 * 8 * 8 * 8


def test_pymoo_can_solve_it_on_its_own(toy: Any) -> None:
    made = problem(toy)
    algorithm = make_algorithm("nsga2", made, 24, 1, initial_indices(made, 24, 1))
    for _ in range(30):
        algorithm.next()
    result = algorithm.result()
    every = toy.Space().every()
    truth = np.column_stack(
        [[toy.error_of(Candidate(tuple(row))) for row in every], toy.Model().predict(every).latency_ms]
    )
    best = truth[nondominated(truth)]
    reference = 1.1 * truth.max(axis=0)
    assert hypervolume(result.F, reference) > 0.99 * hypervolume(best, reference)


@settings(max_examples=25, deadline=None)
@given(population=st.integers(2, 80), seed=st.integers(0, 1000))
def test_the_first_generation_is_distinct_valid_and_begins_with_the_base(toy: Any, population: int, seed: int) -> None:
    made = problem(toy)
    indices = initial_indices(made, population, seed)
    assert indices.shape == (population, 6)
    assert len({tuple(row) for row in indices.tolist()}) == population
    assert (indices >= 0).all()
    assert (indices <= made.xu).all()
    assert tuple(indices[0]) == tuple(made.xu)
    assert (indices == initial_indices(made, population, seed)).all()


def test_the_ladder_keeps_the_same_share_of_every_group(toy: Any) -> None:
    made = problem(toy, widths=(64, 64, 64, 64, 64, 64))
    rungs = made.candidates(initial_indices(made, 32, 0)[1:8])
    ladder = np.array([each.widths for each in rungs])  # two of the eight rungs round to the same level
    assert (ladder == ladder[:, :1]).all()
    assert ladder[0, 0] == 8
    assert (np.diff(ladder[:, 0]) > 0).all()


def test_a_small_space_is_returned_whole(toy: Any) -> None:
    made = problem(toy, widths=(16, 16, 8, 8, 8, 8))
    assert len(initial_indices(made, 32, 0)) == 4


def test_algorithms_are_found_by_name() -> None:
    assert "nsga2" in list_algorithms()
    with pytest.raises(ValueError, match="two search algorithms are called 'nsga2'"):
        register("nsga2")(lambda start: None)


def test_an_unknown_algorithm_is_refused_with_the_known_ones(toy: Any) -> None:
    made = problem(toy)
    with pytest.raises(UserError, match=r"no search algorithm 'magic'; known are .*nsga2"):
        make_algorithm("magic", made, 8, 0, initial_indices(made, 8, 0))


@pytest.mark.parametrize("name", list_algorithms())
def test_every_algorithm_asks_for_whole_levels_within_bounds(toy: Any, name: str) -> None:
    made = problem(toy)
    if name == "age-moea2":
        pytest.importorskip("numba")
    algorithm = make_algorithm(name, made, 12, 3, initial_indices(made, 12, 3))
    for _ in range(6):
        asked = algorithm.ask()
        if asked is None:  # all of what it had to propose
            break
        x = asked.get("X")
        assert (x == np.round(x.astype(float))).all()
        assert (x >= 0).all()
        assert (x <= made.xu).all()
        algorithm.evaluator.eval(made, asked)
        algorithm.tell(infills=asked)


def test_the_last_variables_are_the_blocks_and_the_ladder_keeps_them_all(toy: Any) -> None:
    made = problem(toy, blocks=(SimpleNamespace(name="a"), SimpleNamespace(name="b")))
    assert made.n_var == 8
    assert made.size == 4 * problem(toy).size
    row = made.xu.astype(np.int64)
    row[-2] = 0
    assert made.candidates(row[None]) == [Candidate(toy.Space().widths, ("a",))]
    assert (initial_indices(made, 32, 0)[:8, -2:] == 1).all()

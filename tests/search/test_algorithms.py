"""Every registered algorithm, by the same rules: a new one is tested by being registered."""

from __future__ import annotations

import importlib.util
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hwloop.errors import UserError
from hwloop.search import PruningProblem, list_algorithms

BUILT_IN = ("gde3", "hamp", "moead", "nsga2", "nsga3", "random", "sms-emoa", "uniform")


def test_the_algorithms_that_are_promised_are_there() -> None:
    assert set(BUILT_IN) <= set(list_algorithms())


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_killed_search_resumes_to_the_bit(toy: Any, name: str) -> None:
    space = toy.Space(blocks=(SimpleNamespace(name="first"), SimpleNamespace(name="second")))
    options = {"algorithm": name, "population": 12, "generations": 4, "space": space}
    whole, journal, judge = toy.MemoryJournal(), toy.MemoryJournal(), toy.Judge()
    expected = toy.search(whole, judge, **options)
    kill_at = len(whole.records) * 2 // 3
    with pytest.raises(InterruptedError):
        toy.search(journal, toy.Judge(fail_after=kill_at), **options)
    again = toy.Judge()
    resumed = toy.search(journal, again, **options)
    assert json.dumps(journal.records) == json.dumps(whole.records)
    assert resumed.front == expected.front
    assert resumed.hypervolume == expected.hypervolume
    assert len(again.seen) == len(judge.seen) - kill_at


@pytest.mark.parametrize("name", BUILT_IN)
def test_no_search_evaluates_more_than_its_budget(toy: Any, name: str) -> None:
    judge = toy.Judge()
    result = toy.search(toy.MemoryJournal(), judge, algorithm=name, population=10, generations=4)
    assert len(judge.seen) == len(set(judge.seen)) == len(result.evaluated) <= 40
    assert len(result.front) > 1


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("objectives", [("error", "macs"), ("error", "latency_ms", "peak_memory_mb", "parameters")])
def test_two_and_four_objectives_are_searched_as_well(toy: Any, name: str, objectives: tuple[str, ...]) -> None:
    result = toy.search(toy.MemoryJournal(), algorithm=name, population=12, generations=3, objectives=objectives)
    assert len(result.front[0].values) == len(objectives)


def test_hamp_evaluates_a_small_space_whole(toy: Any) -> None:
    space = toy.Space(widths=(16, 16, 8, 8, 8, 8), step=8)
    result = toy.search(toy.MemoryJournal(), algorithm="hamp", space=space)
    assert len(result.evaluated) == len(space.every())
    assert result.exhausted


def test_hamp_without_an_error_to_guess_finds_the_one_best(toy: Any) -> None:
    result = toy.search(toy.MemoryJournal(), algorithm="hamp", objectives=("latency_ms", "parameters"))
    assert set(result.front[0].candidate.widths) == {8}


def test_uniform_scaling_keeps_one_share_and_then_ends(toy: Any) -> None:
    space = toy.Space(widths=(64, 64, 64, 64, 64, 64))
    result = toy.search(toy.MemoryJournal(), algorithm="uniform", space=space)
    assert [set(each.candidate.widths) for each in result.evaluated] == [
        {width} for width in (64, 8, 32, 48, 16, 56, 40, 24)
    ]
    assert result.exhausted


def test_the_problem_tells_what_belongs_together_and_what_is_cheap(toy: Any) -> None:
    class Space(toy.Space):  # type: ignore[misc,name-defined]
        """The third width is only in the block."""

        def candidate(self, widths: Any, remains: Any = None) -> Any:
            found = super().candidate(widths, remains)
            kept = tuple(self.widths[2] if g == 2 and found.removed else w for g, w in enumerate(found.widths))
            return type(found)(kept, found.removed)

    space = Space(blocks=(SimpleNamespace(name="only"),))
    problem = PruningProblem(
        space, ("error", "latency_ms"), lambda x: np.zeros((len(x), 2)), lambda x: np.array([[np.nan, 3.0]] * len(x))
    )
    assert problem.structure.units == ((0,), (1,), (2, 6), (3,), (4,), (5,))
    assert problem.cheap.columns == (1,)
    assert problem.cheap.values(problem.xu[None].astype(int)).tolist() == [[3.0]]
    assert problem.canonical(np.array([[0, 0, 0, 0, 0, 0, 0]])).tolist() == [[0, 0, 3, 0, 0, 0, 0]]
    assert problem.canonical(np.array([[0, 0, 0, 0, 0, 0, 1]])).tolist() == [[0, 0, 0, 0, 0, 0, 1]]


@pytest.mark.skipif(importlib.util.find_spec("numba") is not None, reason="numba is installed")
def test_an_algorithm_whose_package_is_missing_says_so(toy: Any) -> None:
    with pytest.raises(UserError, match="'age-moea2' of pymoo needs numba"):
        toy.search(toy.MemoryJournal(), algorithm="age-moea2")

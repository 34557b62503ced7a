"""What the contests promise: equal budgets and beginnings, nothing run twice, and the problem that ships."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwloop.search import nondominated
from hwloop.search.front import hypervolume
from hwloop.search.synthetic import Stage, SyntheticPruning
from tests.benchmarks import contest
from tests.benchmarks.contest import NO_BLOCKS, Contest, Course
from tests.benchmarks.resnet20 import OBJECTIVES, ErrorSurrogate, errors_of, open_moves, predictor, read

SMALL = (Stage(32, 1024, 3), Stage(64, 512, 3))


class Watched(SyntheticPruning):
    """Keeps what it was asked for."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, SMALL)
        self.asked: list[np.ndarray] = []

    def _evaluate(self, x: np.ndarray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        self.asked.append(self.canonical(x.astype(np.int64)))
        super()._evaluate(x, out)


def course(seed: int) -> Course:
    problem = Watched(seed)
    reference = problem.base * 1.1
    reference[0] = 1.0
    return Course(problem, reference, problem.objectives, hypervolume(problem.front, reference))


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    contest.add_options(parser, 2)
    return parser.parse_args(words)


@pytest.mark.parametrize("name", ["hamp", "nsga2", "gde3", "hypervolume alone"])
def test_everyone_has_the_same_budget_and_begins_alike(name: str) -> None:
    taken = course(3)
    run = contest.run(name, taken, 3, 48, 12)
    assert run.evaluations == len(run.curve) == 48
    assert (np.diff(run.curve) >= 0).all()
    assert 0 < run.curve[-1] <= 1
    assert nondominated(run.front).all()
    other = course(3)
    contest.run("sms-emoa", other, 3, 48, 12)
    first, second = ({row.tobytes() for row in one.problem.asked[0]} for one in (taken, other))
    assert len(first & second) >= 9  # HAMP puts greedy ones in the place of the last


def test_without_removed_blocks_none_is_removed_and_the_problem_is_as_before() -> None:
    taken = course(1)
    problem = taken.problem
    contest.run(NO_BLOCKS, taken, 1, 40, 10)
    assert (np.concatenate(problem.asked)[:, problem.groups :] == 1).all()
    assert (problem.xl == 0).all()


def test_what_is_in_the_journal_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def never(seed: int) -> Course:
        raise AssertionError(seed)

    words = ["--journal", str(tmp_path / "runs"), "--only", "nsga2,random", "--plot", str(tmp_path / "page.html")]
    contest.hold(Contest("small", "small", ("error", "latency", "memory"), course, 30, 10), options(*words))
    told = capsys.readouterr().out
    contest.hold(Contest("small", "small", ("error", "latency", "memory"), never, 30, 10), options(*words))
    assert capsys.readouterr().out == told
    assert "reference error 1, latency" in told
    assert {"nsga2", "random"} <= {line.split()[0] for line in told.splitlines()}
    assert "<title>small</title>" in (tmp_path / "page.html").read_text()


@pytest.mark.slow
def test_the_problem_that_ships_is_whole_and_can_be_searched() -> None:
    judged, conditions = read()
    moves = open_moves()
    space, costs = moves.space, predictor(moves.scalable)
    candidates = [space.parse(one.text) for one in judged]
    assert len(set(candidates)) == len(judged) >= 3000
    assert all(space.contains(candidate) for candidate in candidates)
    assert conditions["fidelity"] == "shared-weights"
    surrogate = ErrorSurrogate.fitted(space, judged[::8])
    told = surrogate.errors(candidates[1::8])
    assert np.corrcoef(told, errors_of(judged[1::8]))[0, 1] > 0.8
    taken = contest.networks(space, OBJECTIVES, costs, surrogate.errors, 0.1)
    assert contest.run("hamp", taken, 1, 60, 20).curve[-1] > contest.run("uniform", taken, 1, 60, 20).curve[-1] > 0

"""HAMP, its parts and its rivals on a pruning problem of 50 variables whose front is known.

`search-synthetic [--seeds 11] [--first 1] [--budget 600] [--population 40] [--noise 0] [--journal FILE] [--plot FILE]
[--only NAME,NAME]`

Every seed is a problem of its own (other sensitivities) and a run of its own; see `contest.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from hwloop.search.front import hypervolume
from hwloop.search.synthetic import SyntheticPruning
from tests.benchmarks.contest import Contest, Course, add_options, hold


def main(words: Sequence[str] = ()) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="search-synthetic")
    add_options(parser, 11)
    parser.add_argument("--budget", type=int, default=600)
    parser.add_argument("--population", type=int, default=40)
    parser.add_argument("--noise", type=float, default=0.0)
    given = parser.parse_args(words)

    def course(seed: int) -> Course:
        problem = SyntheticPruning(seed, noise=given.noise)
        reference = problem.base * 1.1
        reference[0] = 1.0
        return Course(problem, reference, problem.objectives, hypervolume(problem.front, reference))

    about = f"synthetic pruning, 50 variables, noise {given.noise}; hypervolumes are shares of the true front's"
    objectives = ("error", "latency", "memory")
    conditions = {"noise": given.noise}
    hold(Contest("search-synthetic", about, objectives, course, given.budget, given.population, conditions), given)

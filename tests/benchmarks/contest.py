"""HAMP, its parts and its rivals on one problem: equal budgets, equal first points, one table.

A budget counts different networks whose error was asked for. All runs of a seed begin with the same ladder and random
points. With a journal, finished runs are not repeated.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.core.termination import NoTermination
from pymoo.util.display.output import Output

from hwloop.pruning import Candidate, PruningSpace
from hwloop.report.comparison import attainment_figure, curve_figure
from hwloop.search import CostModel, Costs, PruningProblem, get_objectives, make_algorithm, nondominated
from hwloop.search.assessor import REFERENCE_MARGIN
from hwloop.search.comparison import attainment, hypervolume_curve, share_to_reach, signed_rank, standings
from hwloop.search.front import hypervolume
from hwloop.search.hamp import HAMP, SELECTORS
from hwloop.search.hamp.seeding import first_generation
from hwloop.search.structure import Cheap

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

RIVALS = ("nsga2", "nsga3", "sms-emoa", "moead", "gde3", "random", "uniform")

NO_BLOCKS = "hamp, no removed blocks"

MOST_ASKED = 3
"""An algorithm that asks for known networks ends after so many times the budget."""

MEDIAN = 50

Maker = Callable[[Any, int, IntArray, int], Any]
"""Problem, population, first points and seed to an algorithm that is ready to be asked."""


Errors = Callable[[Sequence[Candidate]], FloatArray]
"""Candidates to their errors."""


@dataclass(frozen=True)
class Course:
    """What is searched in the runs of one seed.

    Attributes:
        problem: a pymoo problem with the `structure`, `canonical`, `groups` and `size` that HAMP and its rivals need.
        reference: (m,) of the hypervolume.
        truth: (n, v) points to the (n, m) values that a run is judged by; None: those that the search was told.
        share_of: the hypervolume that is called 1, as a share of the box up to the reference.
    """

    problem: Any
    reference: FloatArray
    truth: Callable[[IntArray], FloatArray] | None = None
    share_of: float = 1.0


@dataclass(frozen=True)
class Contest:
    """One problem and how it is to be talked of.

    Attributes:
        name: of the benchmark.
        about: what is searched, for the head of the table.
        objectives: names; the first two are plotted.
        course: seed to what is searched; asked only for runs that are not in the journal.
        budget: evaluations of a run.
        population: of every algorithm.
        conditions: what else a run in the journal depends on.
    """

    name: str
    about: str
    objectives: tuple[str, ...]
    course: Callable[[int], Course]
    budget: int
    population: int = 40
    conditions: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One algorithm with one seed.

    Attributes:
        curve: (budget,) hypervolume after each evaluation.
        front: (k, 2) what is not dominated in the first two objectives.
        reference: of the hypervolume.
        evaluations: that were asked for; fewer than the budget where the algorithm ended by itself.
        seconds: it took.
    """

    curve: FloatArray
    front: FloatArray
    reference: FloatArray
    evaluations: int
    seconds: float

    def to_record(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {
            "curve": [round(float(value), 6) for value in self.curve],
            "front": self.front.tolist(),
            "reference": self.reference.tolist(),
            "evaluations": self.evaluations,
            "seconds": self.seconds,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Run:
        """The inverse of `to_record`."""
        curve, front, reference = (np.array(record[name]) for name in ("curve", "front", "reference"))
        return cls(curve, front, reference, record["evaluations"], record["seconds"])


def networks(
    space: PruningSpace, objectives: Sequence[str], costs: CostModel, errors: Errors, least_error: float
) -> Course:
    """A course over pruned networks.

    The reference point is that of every search (`assessor.REFERENCE_MARGIN`); hypervolumes are shares of the box from
    it to the point that has the least error, and in the other objectives what the smallest network has.

    Args:
        space: the networks.
        objectives: the error first.
        costs: of everything but the error.
        errors: gives the (n,) errors of n candidates.
        least_error: see above.
    """
    wanted = get_objectives(objectives)
    blocks = len(space.blocks) > 0

    def cheap(candidates: Sequence[Candidate]) -> FloatArray:
        widths, remains = space.arrays(candidates)
        found = Costs.of(costs, widths, remains if blocks else None)
        columns = [np.full(len(candidates), np.nan) if one.cost is None else one.cost(found) for one in wanted]
        return np.stack(columns, axis=1)

    def assess(candidates: Sequence[Candidate]) -> FloatArray:
        values = cheap(candidates)
        values[:, 0] = errors(candidates)
        return values

    reference, best = cheap([space.base, space.smallest]) * ((REFERENCE_MARGIN,), (1.0,))
    reference[0], best[0] = 1.0, least_error
    problem = PruningProblem(space, tuple(objectives), assess, cheap)
    return Course(problem, reference, share_of=hypervolume(best[None], reference))


def variants() -> dict[str, Maker]:
    """Everything that can be run, by name."""

    def ready(**parts: Any) -> Maker:
        def make(problem: Any, population: int, initial: IntArray, seed: int) -> Any:
            algorithm = HAMP(population, sampling=initial, **parts)
            return algorithm.setup(problem, termination=NoTermination(), seed=seed, output=Output())

        return make

    def rival(name: str) -> Maker:
        return lambda problem, population, initial, seed: make_algorithm(name, problem, population, seed, initial)

    alone = {name: {name: selector} for name, selector in SELECTORS.items()}
    return {
        "hamp": ready(),
        **{name: rival(name) for name in RIVALS},
        **{f"{name} alone": ready(local_search=None, selectors=one) for name, one in alone.items()},
        "hamp, no local search": ready(local_search=None),
        NO_BLOCKS: ready(),
        **{f"hamp, only {name}": ready(selectors=one) for name, one in alone.items()},
    }


def add_options(parser: argparse.ArgumentParser, contest_seeds: int) -> None:
    """The options that every contest has."""
    parser.add_argument("--seeds", type=int, default=contest_seeds)
    parser.add_argument("--first", type=int, default=1, help="seed")
    parser.add_argument("--journal", type=Path, help="runs are kept there")
    parser.add_argument("--plot", type=Path, help="curves and attainment, as an HTML page")
    parser.add_argument("--only", default=",".join(name.replace(",", "") for name in variants()))


def hold(contest: Contest, given: argparse.Namespace) -> None:
    """Run what is not in the journal and print the table; `given` has the options of `add_options`."""
    asked = [name.strip() for name in given.only.split(",")]
    names = [name for name in variants() if name in asked or name.replace(",", "") in asked]
    seeds = range(given.first, given.first + given.seeds)
    known = _read(given.journal)
    runs: dict[str, dict[int, Run]] = {name: {} for name in names}
    for seed in seeds:
        course: Course | None = None
        for name in names:
            key = json.dumps([name, seed, contest.budget, contest.population, dict(contest.conditions)])
            if key not in known:
                course = course or contest.course(seed)
                if name == NO_BLOCKS and not _blocks(course.problem).any():
                    continue  # there is nothing to leave out
                known[key] = run(name, course, seed, contest.budget, contest.population).to_record()
                _write(given.journal, key, known[key])
            runs[name][seed] = Run.from_record(known[key])
    runs = {name: found for name, found in runs.items() if found}
    _print(contest, runs, seeds)
    if given.plot:
        _plot(contest, runs, given.plot)


def run(name: str, course: Course, seed: int, budget: int, population: int) -> Run:
    """Run one algorithm until it has asked for so many different networks."""
    problem = course.problem
    bound = problem.xl
    low, high = bound.astype(np.int64), problem.xu.astype(np.int64)
    if name == NO_BLOCKS:
        low = np.where(_blocks(problem), high, low)
    problem.xl = low
    try:
        rng = np.random.default_rng(seed)
        initial = first_generation(population, low, high, problem.structure, Cheap(), rng)
        algorithm = variants()[name](problem, population, initial, seed)
        seen: dict[bytes, FloatArray] = {}
        asked = 0
        begin = time.perf_counter()
        while len(seen) < budget and asked < MOST_ASKED * budget:
            infills = algorithm.ask()
            if infills is None or not len(infills):
                break
            algorithm.evaluator.eval(problem, infills)
            points = problem.canonical(infills.get("X").astype(np.int64))
            values = course.truth(points) if course.truth else infills.get("F")
            for point, value in zip(points, values, strict=True):
                seen.setdefault(point.tobytes(), np.asarray(value, dtype=np.float64))
            asked += len(infills)
            algorithm.tell(infills=infills)
        seconds = time.perf_counter() - begin
    finally:
        problem.xl = bound
    found = np.array(list(seen.values()))[:budget]
    curve = hypervolume_curve(found, course.reference) / course.share_of
    padded = np.append(curve, np.full(budget - len(curve), curve[-1]))  # a list that ended earlier gains nothing more
    return Run(padded, found[nondominated(found[:, :2])][:, :2], course.reference, len(found), seconds)


def _blocks(problem: Any) -> NDArray[np.bool_]:
    """(v,) which variables remove a block: they come after the widths."""
    return np.asarray(np.arange(problem.n_var) >= problem.groups, dtype=np.bool_)


def _print(contest: Contest, runs: Mapping[str, Mapping[int, Run]], seeds: Sequence[int]) -> None:
    references = np.array([run.reference for found in runs.values() for run in found.values()])
    low, high = references.min(axis=0), references.max(axis=0)
    reference = ", ".join(
        f"{name} {a:.4g}" if np.isclose(a, b) else f"{name} {a:.4g} to {b:.4g}"
        for name, a, b in zip(contest.objectives, low, high, strict=True)
    )
    print(
        f"{contest.about}\nseeds {seeds[0]}..{seeds[-1]}, {contest.budget} evaluations, population"
        f" {contest.population}; hypervolume by moocore, reference {reference}"
    )
    head = f"{'algorithm':24s} {'median':>7s} {'lowest':>7s} {'quartiles':>15s} {'highest':>7s}"
    print(f"{head} {'hamp wins':>9s} {'p (hamp)':>8s} {'to reach nsga2':>14s} {'hamp to reach':>13s} {'s/run':>6s}")
    curves = {name: {seed: run.curve for seed, run in found.items()} for name, found in runs.items()}
    for standing in standings(curves, "nsga2"):
        name = standing.algorithm
        lowest, first, middle, third, highest = standing.hypervolume
        pairs = [(curves["hamp"][s], curves[name][s]) for s in curves[name]] if "hamp" in curves else []
        versus = " " * 18
        reach = " " * 13
        if name != "hamp" and len(pairs) > 1:
            differences = [float(mine[-1] - other[-1]) for mine, other in pairs]
            won = f"{sum(one > 0 for one in differences)}/{len(pairs)}"
            versus = f"{won:>9s} {signed_rank(differences):8.4f}"
            reach = f"{np.median([share_to_reach(mine, other) for mine, other in pairs]):13.3f}"
        share = "" if standing.share_to_reach is None else f"{standing.share_to_reach:.3f}"
        print(
            f"{name:24s} {middle:7.4f} {lowest:7.4f} {first:7.4f}-{third:7.4f} {highest:7.4f} {versus} {share:>14s}"
            f" {reach} {np.median([run.seconds for run in runs[name].values()]):6.1f}"
        )
    print(
        "p: two-sided Wilcoxon signed-rank of hamp's final hypervolumes against each, paired by seed; to reach: median"
        " share of the evaluations"
    )


def _plot(contest: Contest, runs: Mapping[str, Mapping[int, Run]], path: Path) -> None:
    curves = {name: {seed: run.curve for seed, run in found.items()} for name, found in runs.items()}
    attained = {name: attainment([run.front for run in found.values()], MEDIAN) for name, found in runs.items()}
    figures = (curve_figure(curves), attainment_figure(attained, contest.objectives))
    parts = [figure.to_html(full_html=False, include_plotlyjs=not place) for place, figure in enumerate(figures)]
    path.write_text(f"<!doctype html><title>{contest.name}</title><p>{contest.about}</p>" + "".join(parts))


def _read(journal: Path | None) -> dict[str, Any]:
    if journal is None or not journal.exists():
        return {}
    return dict(json.loads(line) for line in journal.read_text().splitlines())


def _write(journal: Path | None, key: str, record: Mapping[str, Any]) -> None:
    if journal is not None:
        with journal.open("a") as stream:
            stream.write(json.dumps([key, record]) + "\n")

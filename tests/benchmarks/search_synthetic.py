"""HAMP, its parts and its rivals on a pruning problem of 50 variables whose front is known.

`search-synthetic [--seeds 11] [--first 1] [--budget 600] [--population 40] [--journal FILE] [--only NAME,NAME]`

Every seed is a problem of its own (other sensitivities) and a run of its own; all algorithms see the same problem and
the same ladder and random points first. A budget counts different networks whose error was asked for. With a journal,
finished runs are not repeated.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pymoo.core.termination import NoTermination
from pymoo.util.display.output import Output

from hwloop.search.algorithms import make_algorithm
from hwloop.search.comparison import hypervolume_curve, signed_rank, standings
from hwloop.search.front import hypervolume
from hwloop.search.hamp import HAMP, SELECTORS
from hwloop.search.hamp.seeding import first_generation
from hwloop.search.structure import Cheap
from hwloop.search.synthetic import SyntheticPruning

RIVALS = ("nsga2", "nsga3", "sms-emoa", "moead", "gde3", "random", "uniform")

MOST_ASKED = 3
"""An algorithm that asks for known networks ends after so many times the budget."""


def variants() -> dict[str, Callable[[Any, int, Any, int], Any]]:
    """By name: problem, population, first points and seed to an algorithm that is ready to be asked."""

    def ready(**parts: Any) -> Callable[[Any, int, Any, int], Any]:
        def make(problem: Any, population: int, initial: Any, seed: int) -> Any:
            algorithm = HAMP(population, sampling=initial, **parts)
            return algorithm.setup(problem, termination=NoTermination(), seed=seed, output=Output())

        return make

    def rival(name: str) -> Callable[[Any, int, Any, int], Any]:
        return lambda problem, population, initial, seed: make_algorithm(name, problem, population, seed, initial)

    alone = {name: {name: selector} for name, selector in SELECTORS.items()}
    return {
        "hamp": ready(),
        **{name: rival(name) for name in RIVALS},
        **{f"{name} alone": ready(local_search=None, selectors=one) for name, one in alone.items()},
        "hamp, no local search": ready(local_search=None),
        "hamp, no removed blocks": ready(),
        **{f"hamp, only {name}": ready(selectors=one) for name, one in alone.items()},
    }


def main(words: Sequence[str] = ()) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="search-synthetic")
    parser.add_argument("--seeds", type=int, default=11)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--budget", type=int, default=600)
    parser.add_argument("--population", type=int, default=40)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--only", default=",".join(variants()))
    given = parser.parse_args(words)
    names = [name.strip() for name in given.only.split(",")]
    names = [name for name in variants() if name in names or name.replace(",", "") in names]
    seeds = range(given.first, given.first + given.seeds)
    known = _read(given.journal)
    curves: dict[str, dict[int, Any]] = {}
    seconds: dict[str, list[float]] = {}
    for seed in seeds:
        for name in names:
            key = json.dumps([name, seed, given.budget, given.population, given.noise])
            if key not in known:
                known[key] = _run(name, seed, given.budget, given.population, given.noise)
                _write(given.journal, key, known[key])
            curves.setdefault(name, {})[seed] = np.array(known[key]["curve"])
            seconds.setdefault(name, []).append(known[key]["seconds"])
    print(
        f"synthetic pruning, 50 variables, error/latency/memory; seeds {seeds[0]}..{seeds[-1]} (problem and run);"
        f" {given.budget} evaluations, population {given.population}, noise {given.noise}\n"
        "hypervolume by moocore, reference (1, 1.1 x base latency, 1.1 x base memory), as a share of the true front's"
    )
    head = f"{'algorithm':24s} {'median':>7s} {'lowest':>7s} {'quartiles':>15s} {'highest':>7s}"
    print(f"{head} {'p (hamp)':>9s} {'share of evaluations to nsga2':>30s} {'s/run':>6s}")
    for standing in standings(curves, "nsga2"):
        name = standing.algorithm
        low, first, middle, third, high = standing.hypervolume
        pairs = [curves["hamp"][s][-1] - curves[name][s][-1] for s in seeds] if "hamp" in curves else []
        p = f"{signed_rank(pairs):9.4f}" if name != "hamp" and len(pairs) > 1 else " " * 9
        reach = "" if standing.share_to_reach is None else f"{standing.share_to_reach:.3f}"
        print(
            f"{name:24s} {middle:7.4f} {low:7.4f} {first:7.4f}-{third:7.4f} {high:7.4f} {p} {reach:>30s}"
            f" {np.median(seconds[name]):6.1f}"
        )


def _run(name: str, seed: int, budget: int, population: int, noise: float) -> dict[str, Any]:
    problem = SyntheticPruning(seed, noise=noise)
    if name == "hamp, no removed blocks":
        problem.xl[problem.xu == 1] = 1
    low, high = problem.xl.astype(np.int64), problem.xu.astype(np.int64)
    rng = np.random.default_rng(seed)
    initial = first_generation(population, low, high, problem.structure, Cheap(), rng)
    algorithm = variants()[name](problem, population, initial, seed)
    seen: dict[bytes, Any] = {}
    asked = 0
    begin = time.perf_counter()
    while len(seen) < budget and asked < MOST_ASKED * budget:
        infills = algorithm.ask()
        if infills is None or not len(infills):
            break
        algorithm.evaluator.eval(problem, infills)
        points = problem.canonical(infills.get("X").astype(np.int64))
        for point, truth in zip(points, problem.objectives(points), strict=True):
            seen.setdefault(point.tobytes(), truth)
        asked += len(infills)
        algorithm.tell(infills=infills)
    seconds = time.perf_counter() - begin
    reference = problem.base * 1.1
    reference[0] = 1.0
    whole = hypervolume(problem.front, reference)
    values = np.array(list(seen.values()))[:budget]
    curve = hypervolume_curve(values, reference) / whole
    padded = np.append(curve, np.full(budget - len(curve), curve[-1]))  # a list that ended earlier gains nothing more
    return {"curve": [round(float(value), 6) for value in padded], "seconds": seconds}


def _read(journal: Path | None) -> dict[str, Any]:
    if journal is None or not journal.exists():
        return {}
    return dict(json.loads(line) for line in journal.read_text().splitlines())


def _write(journal: Path | None, key: str, run: dict[str, Any]) -> None:
    if journal is not None:
        with journal.open("a") as stream:
            stream.write(json.dumps([key, run]) + "\n")

"""What a generation of HAMP costs beside evaluating: population 100, 60 variables, three objectives."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from pymoo.core.termination import NoTermination
from pymoo.util.display.output import Output

from hwloop.search.hamp import HAMP, LocalSearch
from hwloop.search.synthetic import Stage, SyntheticPruning

STAGES = (Stage(32, 1024, 10), Stage(64, 512, 10), Stage(128, 256, 10))
"""3 + 30 widths and 27 flags."""

POPULATION, GENERATIONS = 100, 12


def main(_words: Sequence[str] = ()) -> None:
    """Print milliseconds per generation: asking and telling, without evaluating; by the clock and of the processor."""
    problem = SyntheticPruning(1, STAGES)
    print(
        f"population {POPULATION}, {problem.n_var} variables, 3 objectives (2 cheap), {GENERATIONS} generations, seed 1"
    )
    settings: dict[str, LocalSearch | None] = {"without local search": None, "with local search": LocalSearch()}
    for name, local_search in settings.items():
        algorithm = HAMP(POPULATION, local_search=local_search)
        algorithm.setup(problem, termination=NoTermination(), seed=1, output=Output())
        spent, worked = [], []
        for _ in range(GENERATIONS):
            begin, busy = time.perf_counter(), time.process_time()
            infills = algorithm.ask()
            asked, asking = time.perf_counter() - begin, time.process_time() - busy
            algorithm.evaluator.eval(problem, infills)
            begin, busy = time.perf_counter(), time.process_time()
            algorithm.tell(infills=infills)
            spent.append(1e3 * (asked + time.perf_counter() - begin))
            worked.append(1e3 * (asking + time.process_time() - busy))
        later, busy_later = np.array(spent[1:]), np.array(worked[1:])
        print(
            f"{name}: first generation {spent[0]:.0f} ms; the others median {np.median(later):.0f} ms,"
            f" {later.min():.0f} to {later.max():.0f} ms (processor time {np.median(busy_later):.0f} ms,"
            f" {busy_later.min():.0f} to {busy_later.max():.0f} ms)"
        )

"""Several search algorithms on the problem of a study: same space, same judge, same predictor, same budget.

Nothing is measured: the study must have its predictor. Each run has a journal of its own in the study directory
(``compare/ALGORITHM-SEED.ndjson``), so a comparison that was interrupted goes on, and one that is finished can be given
more seeds or algorithms. An error that any of the runs has asked for is not computed again, but counts for every run
that asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwloop.errors import StudyError, UserError
from hwloop.predictors import NetworkPredictor
from hwloop.progress import Progress
from hwloop.pruning import Candidate
from hwloop.runtimes import get_runtime
from hwloop.search import OneByOne, SearchResult, list_algorithms, run_search
from hwloop.search.comparison import Standing, attainment, hypervolume_curve, standings
from hwloop.study.base import prepare_base
from hwloop.study.config import load_config
from hwloop.study.directory import StudyDirectory
from hwloop.study.judge_stage import make_estimator
from hwloop.study.space import find_moves
from hwloop_agent.journal import Journal

FloatArray = NDArray[np.float64]

FOLDER = "compare"

NEEDED = ("space.json", "device.json", "predictor.json")


@dataclass(frozen=True)
class Comparison:
    """What several algorithms found.

    Attributes:
        study: its name.
        objectives: names, in the order of all values.
        evaluations: the budget of each run.
        rival: the algorithm that the others are compared with.
        runs: by algorithm and seed.
    """

    study: str
    objectives: tuple[str, ...]
    evaluations: int
    rival: str
    runs: Mapping[str, Mapping[int, SearchResult]]

    @property
    def reference(self) -> tuple[float, ...]:
        """The reference point of every hypervolume: it is the problem's, not a run's."""
        return next(iter(next(iter(self.runs.values())).values())).reference

    @cached_property
    def curves(self) -> Mapping[str, Mapping[int, FloatArray]]:
        """By algorithm and seed, (n,) hypervolume after each evaluation, as a share of the box up to the reference."""
        reference = np.array(self.reference)
        return {
            name: {seed: hypervolume_curve(values_of(run), reference) for seed, run in runs.items()}
            for name, runs in self.runs.items()
        }

    @cached_property
    def standings(self) -> tuple[Standing, ...]:
        """One for each algorithm, the best median hypervolume first."""
        return standings(self.curves, self.rival)

    def attained(self, percentile: float) -> Mapping[str, FloatArray]:
        """By algorithm, the (k, 2) line in the first two objectives that this percentage of its runs attained."""
        return {
            name: attainment([values_of(run)[:, :2] for run in runs.values()], percentile)
            for name, runs in self.runs.items()
        }


def values_of(run: SearchResult) -> FloatArray:
    """(n, m) objectives in the order of evaluation."""
    return np.array([each.values for each in run.evaluated], dtype=np.float64)


def compare_algorithms(
    path: Path, algorithms: Sequence[str], seeds: Sequence[int], rival: str, progress: Progress
) -> tuple[Comparison, Path]:
    """Run every algorithm with every seed, or what is left of that.

    Args:
        path: the study file; its population and generations are the budget.
        algorithms: names.
        seeds: of the runs.
        rival: one of the algorithms, the one that the others are compared with.
        progress: is told what happens and how far it is.

    Returns:
        The comparison, and the folder of its journals.

    Raises:
        UserError: an algorithm is unknown, or the rival does not take part.
        StudyError: the study has no predictor yet, or a journal is of another search.
    """
    for name in algorithms:
        if name not in list_algorithms():
            raise UserError(f"there is no search algorithm {name!r}; known are {', '.join(list_algorithms())}")
    if rival not in algorithms:
        raise UserError(f"{rival!r} is to be compared with but does not take part: add it to --algorithms")
    if not seeds:
        raise UserError("a comparison needs at least one seed")
    config = load_config(path)
    root = path.parent / (config.study.directory or path.stem)
    missing = [name for name in NEEDED if not (root / name).exists()]
    if missing:
        raise StudyError(f"{root} has no {missing[0]} yet: carry the study out first with `hwloop run {path}`")
    with StudyDirectory(root, config, path.read_text(encoding="utf-8")) as study:
        base = prepare_base(config, study, path.parent, progress)
        runtime = get_runtime(config.measurement.runtime).for_device(study.read_json("device.json")["facts"])
        moves = find_moves(config, base, runtime.fusion, study, progress)
        grain = config.pruning.grain
        moves = moves.with_grain(int(study.read_json("grain.json")["grain"]) if grain == "auto" else grain)
        predictor = NetworkPredictor.load(study.path("predictor.json"), moves.scalable)
        judge = make_estimator(config.judge.fidelity, config, base, moves, study, progress)
        folder = root / FOLDER
        folder.mkdir(exist_ok=True)
        known = _known_errors(folder)

        def error(candidate: Candidate) -> float:
            if candidate not in known:
                known[candidate] = judge.estimate(candidate).error
            return known[candidate]

        runs: dict[str, dict[int, SearchResult]] = {name: {} for name in algorithms}
        for seed in seeds:
            for name in algorithms:
                progress.say(f"{name}, seed {seed}")
                journal = Journal.open(folder / f"{name}-{seed}.ndjson")
                try:
                    runs[name][seed] = run_search(
                        moves.space,
                        OneByOne(error),
                        predictor,
                        config.search.objectives,
                        algorithm=name,
                        population=config.search.population,
                        generations=config.search.generations,
                        seed=seed,
                        journal=journal,
                        progress=progress,
                        context={
                            "data": base.data.fingerprint,
                            "channel_order": moves.surgery.ordered_by,
                            **judge.conditions,
                        },
                    )
                finally:
                    journal.close()
    budget = config.search.population * config.search.generations
    return Comparison(config.study.name, tuple(config.search.objectives), budget, rival, runs), folder


def _known_errors(folder: Path) -> dict[Candidate, float]:
    """Errors that earlier runs of this comparison computed; a torn line at the end of a journal holds none."""
    found: dict[Candidate, float] = {}
    for path in sorted(folder.glob("*.ndjson")):
        journal = Journal.open(path)
        journal.close()
        for record in journal.records:
            if record.get("kind") == "evaluation" and "error" in record["objectives"]:
                candidate = Candidate(tuple(record["widths"]), tuple(record["removed"]))
                found[candidate] = float(record["objectives"]["error"])
    return found

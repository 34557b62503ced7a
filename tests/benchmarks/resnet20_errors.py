"""Real errors of pruned ResNet-20s on CIFAR-10, for the surrogate benchmark: where they are from.

python -m tests.benchmarks search-surrogate-errors --folder DIR [--data DIR] [--drawn 1400] [--searches 2]
                                                   [--budget 400] [--rounds 2] [--led 300] [--write FILE]

The network is the one that was adapted to the JPEG images, with projections for its padded shortcuts (`projected`), so
that its space is that of the campaign whose predictor is used: 12 widths in grains of 8 and 9 blocks. Shared weights
are trained once on 20,000 images; an error is counted on 1,000 held-out images after the batch normalisations were
measured anew on 512.

Judged are, in this order: candidates of all sizes drawn at random; all that short searches of NSGA-II and HAMP ask for;
and, in rounds, what the surrogate of all that was judged so far leads searches to, because a search finds where a
surrogate is too kind. Everything is kept in the folder, so it can be stopped and run again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from hwloop.cli.display import Display
from hwloop.predictors import NetworkPredictor
from hwloop.pruning import SHARED_WEIGHTS, AdaptationConfig, Candidate, ErrorEstimator, HeldOut, Recalibration, adapt
from hwloop.search import OneByOne, SearchResult, run_search
from hwloop.search.hamp.selection.order import fronts
from hwloop.study.sampling import sample_candidates
from hwloop.study.space import Moves
from hwloop.training import FitConfig
from hwloop_agent.journal import Journal
from tests.benchmarks.cifar import SHARED, images, projected
from tests.benchmarks.resnet20 import JUDGED_ON, LED, OBJECTIVES, ErrorSurrogate, Judged, open_moves, predictor, write

TRAINING, CALIBRATING = 20_000, 1000
ADAPTATION = AdaptationConfig(FitConfig(2, 0.03, augment=True, flip=True, seed=0, device="cpu"))
POPULATION = 40
ALGORITHMS = ("nsga2", "hamp")


class Judge:
    """An error function that keeps everything it says.

    Attributes:
        moves: the space.
        conditions: of its errors.
        judged: by candidate.
        source: what is asking, for the records.
    """

    def __init__(self, moves: Moves, estimator: ErrorEstimator, journal: Journal) -> None:
        """Read what is kept already."""
        self._estimator, self._journal = estimator, journal
        self.moves, self.conditions = moves, estimator.conditions
        self.source = ""
        self.judged: dict[Candidate, Judged] = {}
        for record in journal.records:
            one = Judged.from_record(record)
            self.judged[moves.space.parse(one.text)] = one

    def __call__(self, candidate: Candidate) -> float:
        """Return the error; asked twice, it is judged once."""
        known = self.judged.get(candidate)
        if known is None:
            found = self._estimator.evaluate(candidate)
            known = Judged(self.moves.space.text(candidate), self.source, found.errors)
            self._journal.append({**known.to_record(), "n": found.n, "seconds": round(found.seconds, 4)})
            self.judged[candidate] = known
        return known.errors / JUDGED_ON

    def all(self, candidates: Iterable[Candidate], source: str, console: Console) -> None:
        """Judge all of them."""
        self.source = source
        wanted = list(dict.fromkeys(candidates))
        with Display(console).step(source, len(wanted)) as step:
            for candidate in wanted:
                self(candidate)
                step.advance()


@contextmanager
def open_judge(folder: Path, data: Path, console: Console) -> Iterator[Judge]:
    """Judge with the shared weights in a folder, which are trained where there are none, and keep errors there."""
    folder.mkdir(parents=True, exist_ok=True)
    seen = images(data, TRAINING)
    train, held_out = seen.train, seen.validation
    moves = open_moves(projected("resnet20", data, train.take(np.arange(CALIBRATING))))
    checkpoint = folder / "shared.pt"
    shared = adapt(
        moves.surgery, moves.space, train, config=ADAPTATION, checkpoint=checkpoint, progress=Display(console)
    )
    estimator = ErrorEstimator(
        SHARED_WEIGHTS, shared.plan, Recalibration(train), HeldOut(held_out, limit=JUDGED_ON), threads=1
    )
    with Journal.open(folder / "errors.ndjson") as journal:
        yield Judge(moves, estimator, journal)


def main(arguments: Sequence[str] = ()) -> None:
    """Judge what is not judged yet, then write the file that ships."""
    given = _parse(arguments)
    torch.set_num_threads(1)
    console = Console(width=150)
    with open_judge(given.folder, given.data, console) as judge:
        moves = judge.moves
        costs = predictor(moves.scalable)
        search = partial(_search, moves=moves, costs=costs, given=given, console=console)
        judge.all(sample_candidates(moves.space, given.drawn, seed=0), "drawn", console)
        for seed in range(1, given.searches + 1):
            for algorithm in ALGORITHMS:
                judge.source = f"{algorithm} {seed}"
                search(judge, algorithm, seed)
        for turn in range(1, given.rounds + 1):
            source = f"{LED} {turn}"
            before = [one for one in judge.judged.values() if one.source < source or not one.source.startswith(LED)]
            surrogate = ErrorSurrogate.fitted(moves.space, before)
            found = [search(surrogate.error, algorithm, 100 * turn) for algorithm in ALGORITHMS]
            judge.all(_best(found, {one.text for one in before}, given.led), source, console)
        console.print(f"{len(judge.judged)} candidates judged; the base's error {judge(moves.space.base):.3f}")
        if given.write:
            write(given.write, judge.judged.values(), judge.conditions)


def _search(
    error: Callable[[Candidate], float],
    algorithm: str,
    seed: int,
    *,
    moves: Moves,
    costs: NetworkPredictor,
    given: argparse.Namespace,
    console: Console,
) -> SearchResult:
    with Journal.open(given.folder / f"{algorithm}-{seed}.ndjson") as journal:
        return run_search(
            moves.space,
            OneByOne(error),
            costs,
            OBJECTIVES,
            algorithm=algorithm,
            population=POPULATION,
            generations=given.budget // POPULATION,
            seed=seed,
            journal=journal,
            progress=Display(console),
        )


def _best(found: Sequence[SearchResult], judged: Collection[str], count: int) -> list[Candidate]:
    """So many of what searches asked for that are not judged yet, front after front."""
    asked = {one.candidate: one for result in found for one in result.evaluated if one.text not in judged}
    values = np.array([one.values for one in asked.values()], dtype=np.float64)
    order = np.concatenate(fronts(values, count))[:count]
    candidates = list(asked)
    return [candidates[place] for place in order]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks search-surrogate-errors", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="of shared weights, errors and searches")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--drawn", type=int, default=1400, help="candidates of all sizes")
    parser.add_argument("--searches", type=int, default=2, help="of each algorithm, with real errors")
    parser.add_argument("--budget", type=int, default=400, help="evaluations of a search")
    parser.add_argument("--rounds", type=int, default=2, help="of searches on the surrogate")
    parser.add_argument("--led", type=int, default=300, help="candidates judged after each round")
    parser.add_argument("--write", type=Path, help="the file that ships")
    return parser.parse_args(list(arguments))

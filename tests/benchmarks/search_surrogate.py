"""HAMP, its parts and its rivals on ResNet-20 and CIFAR-10: learned real errors, the latency of a recorded device.

`search-surrogate [--seeds 7] [--first 1] [--budget 600] [--journal FILE] [--plot FILE] [--only NAME,NAME] [--quality]
                  [--real FOLDER [--data DIR]]`

The error of a candidate is what a surrogate learned from the real errors in `data/` (see `resnet20.py`); so a run costs
seconds, and anyone can repeat it. First it is printed how well the surrogate orders candidates that it was not taught,
which limits what the table below can mean; with `--quality` nothing else. With `--real` every error is a real one, as
`search-surrogate-errors` counts them (half a second each; the folder may be that one's): the surrogate has no say.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold

from hwloop.pruning import Candidate, PruningSpace
from tests.benchmarks import contest
from tests.benchmarks.cifar import SHARED
from tests.benchmarks.resnet20 import (
    JUDGED_ON,
    LED,
    OBJECTIVES,
    ErrorSurrogate,
    Judged,
    errors_of,
    open_moves,
    predictor,
    read,
)
from tests.benchmarks.resnet20_errors import open_judge

FOLDS = 5

FloatArray = NDArray[np.float64]


def main(words: Sequence[str] = ()) -> None:
    """Print the surrogate's quality, then the table."""
    parser = argparse.ArgumentParser(prog="search-surrogate")
    contest.add_options(parser, 7)
    parser.add_argument("--budget", type=int, default=600)
    parser.add_argument("--population", type=int, default=40)
    parser.add_argument("--quality", action="store_true", help="of the surrogate, and no search")
    parser.add_argument("--real", type=Path, help="count every error; shared weights and errors are kept there")
    parser.add_argument("--data", type=Path, default=SHARED, help="images, for --real")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    judged, conditions = read()
    moves = open_moves()
    print(
        f"ResNet-20 on CIFAR-10: {len(judged)} real errors on {JUDGED_ON} images, {conditions['fidelity']}, weights"
        f" {conditions['weights']}; {len(moves.space.groups)} widths and {len(moves.space.blocks)} blocks"
    )
    least = float(errors_of(judged).min())
    costs = predictor(moves.scalable)
    if given.real:
        with open_judge(given.real, given.data, Console(width=150)) as judge:
            judge.source = "contest"

            def count(candidates: Sequence[Candidate]) -> FloatArray:
                return np.array([judge(candidate) for candidate in candidates], dtype=np.float64)

            real = contest.networks(moves.space, OBJECTIVES, costs, count, least)
            _hold("every error counted", lambda: real, {"errors": "real"}, given)
        return
    _quality(moves.space, judged)
    if given.quality:
        return

    @cache
    def course() -> contest.Course:
        surrogate = ErrorSurrogate.fitted(moves.space, judged)
        return contest.networks(moves.space, OBJECTIVES, costs, surrogate.errors, least)

    _hold("surrogate of the above", course, {"judged": len(judged)}, given)


def _hold(
    errors: str, course: Callable[[], contest.Course], conditions: Mapping[str, object], given: argparse.Namespace
) -> None:
    about = f"{errors}, latency and peak memory of a recorded device; the same problem for every seed"
    wanted = contest.Contest(
        "search-surrogate", about, OBJECTIVES, lambda _seed: course(), given.budget, given.population, conditions
    )
    contest.hold(wanted, given)


def _quality(space: PruningSpace, judged: Sequence[Judged]) -> None:
    """Of surrogates that were not taught what they are asked: folds, and the last round that a surrogate led to."""
    truth, found = errors_of(judged), np.empty(len(judged))
    near = np.array([one.near_front for one in judged])
    texts = [space.parse(one.text) for one in judged]
    for taught, asked in KFold(FOLDS, shuffle=True, random_state=0).split(texts):
        surrogate = ErrorSurrogate.fitted(space, [judged[place] for place in taught])
        found[asked] = surrogate.errors([texts[place] for place in asked])
    print(f"held out in {FOLDS} folds:")
    for name, which in (
        ("all", np.ones(len(judged), dtype=np.bool_)),
        ("drawn at random", ~near),
        ("asked for by searches", near),
        ("the same, error under 0.3", near & (truth < 0.3)),
    ):
        _print(name, truth[which], found[which])
    rounds = sorted({one.source for one in judged if one.source.startswith(LED)})
    if rounds:
        led = np.array([one.source == rounds[-1] for one in judged])
        surrogate = ErrorSurrogate.fitted(space, [one for one in judged if not one.source.startswith(LED)])
        told = surrogate.errors([candidate for candidate, is_led in zip(texts, led, strict=True) if is_led])
        print("what searches on a surrogate asked for, by one that was taught none of it:")
        _print(rounds[-1], truth[led], told)


def _print(name: str, truth: FloatArray, found: FloatArray) -> None:
    noise = float(np.sqrt(truth * (1 - truth) / JUDGED_ON).mean())
    tau, rho = kendalltau(truth, found).statistic, spearmanr(truth, found).statistic
    r2 = r2_score(truth, found)
    print(
        f"  {name:26s} {len(truth):5d}: Kendall's tau {tau:.3f}, Spearman's rho {rho:.3f}, R2 {r2:.3f};"
        f" mean error {np.abs(truth - found).mean():.4f}, bias {np.mean(found - truth):+.4f} (a count on"
        f" {JUDGED_ON} images has a standard error of {noise:.4f})"
    )

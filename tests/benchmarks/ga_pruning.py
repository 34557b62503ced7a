"""GA pruning (Yang et al. 2019) of LeNet on MNIST: what is removed, at which loss on the test images, at which cost.

python -m tests.benchmarks ga-pruning [--emphases sparsity,computation] [--seeds 5] [--first-seed 0] [--rounds N]
    [--folder DIR]

The network is Caffe's LeNet (431,080 parameters), which the literature on pruning means by the name. Every seed trains
its own base network on its own split. A run is over when it has come to the paper's figure, or after the rounds of its
settings; with --rounds after so many. Everything is chosen on 5,000 held-out training images; the 10,000 test images
are looked at once, when a run is over. What is trained and evolved is kept in the folder: run again, it goes on.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from hwloop.datasets import DataConfig, ImageData, load_images
from hwloop.files import write_atomic
from hwloop.models import build_model, load_weights
from hwloop.progress import Silent
from hwloop.search.ga_pruning import EMPHASES, Census, GaResult, run_ga_pruning
from hwloop.search.keep import packed
from hwloop.study.weights import WeightFolder
from hwloop.training import FitConfig, accuracy, fit
from hwloop_agent.journal import Journal
from tests.conftest import REPOSITORY

MODEL = "lenet_caffe"
BASE = {"epochs": 8, "learning_rate": 0.05, "batch_size": 128}
VALIDATION = 5000
#: The paper's two runs.
GOALS = {"sparsity": "at least 95.42 % of the parameters", "computation": "at least 16x less computation"}
REACHED: Mapping[str, Callable[[Census], bool]] = {
    "sparsity": lambda census: census.parameters_left <= 1 - 0.9542,
    "computation": lambda census: census.computation_left <= 1 / 16,
}


@dataclass(frozen=True)
class Run:
    """One seed of one emphasis, judged on the test images."""

    seed: int
    result: GaResult
    base_accuracy: float
    accuracy: float

    @property
    def lost(self) -> float:
        """Points of accuracy."""
        return 100 * (self.base_accuracy - self.accuracy)


def main(arguments: Sequence[str] = ()) -> None:
    """Print every run as it ends, and the medians of each emphasis."""
    given = _parse(arguments)
    console = Console(width=150)
    given.folder.mkdir(parents=True, exist_ok=True)
    console.print(f"{MODEL} on MNIST, {torch.get_num_threads()} thread(s); base {BASE}, {VALIDATION} images held out")
    runs: dict[str, list[Run]] = {name: [] for name in given.emphases.split(",")}
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        data = load_images(
            DataConfig(
                source="parquet",
                train=given.data / "mnist-train.parquet",
                test=given.data / "mnist-test.parquet",
                validation=VALIDATION,
                seed=seed,
            )
        )
        base = _base(data, seed, given.folder)
        base_accuracy = accuracy(base, data.test)
        for emphasis, done in runs.items():
            result = _result(emphasis, given.rounds, seed, base, data, given.folder / f"{emphasis}-{seed}")
            done.append(Run(seed, result, base_accuracy, accuracy(result.network, data.test)))
            console.print(_line(emphasis, done[-1]), markup=False, soft_wrap=True)
    for emphasis, done in runs.items():
        console.print(f"{emphasis} (the paper: {GOALS[emphasis]}), {len(done)} seeds", markup=False)
        for label, values in (
            ("parameters removed, %", [100 * (1 - run.result.census.parameters_left) for run in done]),
            ("convolution computation, x less", [1 / max(run.result.census.computation_left, 1e-9) for run in done]),
            ("test accuracy lost, points", [run.lost for run in done]),
            ("genomes evaluated", [float(sum(each.evaluations for each in run.result.rounds)) for run in done]),
            ("seconds", [sum(each.seconds for each in run.result.rounds) for run in done]),
        ):
            console.print(
                f"  {label}: median {statistics.median(values):.2f}, {min(values):.2f} to {max(values):.2f}",
                markup=False,
            )


def _base(data: ImageData, seed: int, folder: Path) -> nn.Module:
    torch.manual_seed(seed)
    module = build_model(MODEL, num_classes=10, in_channels=1, image_size=28)
    path = folder / f"base-{seed}.pt"
    if path.exists():
        load_weights(module, path)
    else:
        fit(module, data.train, config=FitConfig(seed=seed, **BASE))
        write_atomic(path, packed(module.state_dict()))
    return module.eval()


def _result(emphasis: str, rounds: int | None, seed: int, base: nn.Module, data: ImageData, own: Path) -> GaResult:
    own.mkdir(exist_ok=True)
    settings = EMPHASES[emphasis]
    journal = Journal.open(own / "rounds.ndjson")
    try:
        for until in [rounds] if rounds else range(1, settings.rounds + 1):
            result = run_ga_pruning(
                base,
                data.train,
                data.validation,
                replace(settings, rounds=until),
                seed=seed,
                journal=journal,
                keep=WeightFolder(own),
                progress=_Lines(),
            )
            gave_up = len(result.rounds) < until
            if REACHED[emphasis](result.census) or gave_up:
                break
        return result
    finally:
        journal.close()


def _line(emphasis: str, run: Run) -> str:
    census, rounds = run.result.census, run.result.rounds
    undone = sum(not each.accepted for each in rounds)
    return (
        f"{emphasis}, seed {run.seed}: round {run.result.chosen} of {len(rounds)} ({undone} undone);"
        f" {1 - census.parameters_left:.2%} of {census.all_parameters} parameters removed;"
        f" convolutions {1 / max(census.computation_left, 1e-9):.1f}x less without zero kernels,"
        f" {census.all_computation / max(census.fine_computation, 1):.1f}x without zero weights;"
        f" test accuracy {run.base_accuracy:.2%} -> {run.accuracy:.2%} ({run.lost:+.2f} points lost);"
        f" validation error {run.result.base_error:.2%} -> {run.result.error:.2%};"
        f" {sum(each.evaluations for each in rounds)} genomes, {len(rounds) * EMPHASES[emphasis].epochs} epochs,"
        f" {sum(each.seconds for each in rounds):.0f} s"
    )


class _Lines(Silent):
    """Prints what ends a run early."""

    def say(self, line: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks ga-pruning")
    parser.add_argument("--emphases", default=",".join(EMPHASES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument(
        "--rounds", type=int, help="of each run, whatever it has come to; with more, a finished one goes on"
    )
    parser.add_argument("--folder", type=Path, default=Path(".hwloop/ga-pruning"), help="what was done is kept there")
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data" / "mnist")
    return parser.parse_args(arguments)

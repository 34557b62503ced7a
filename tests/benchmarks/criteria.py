"""Criteria on ResNet-20 and CIFAR-10: which order of channels loses least, and what does it cost to find?

python -m tests.benchmarks criteria [--data DIR] [--criteria l1,clad,…] [--shares 75,50] [--seeds 3] [--images 1024]
                                    [--epochs 1] [--finetune-images 4000] [--test-images 5000] [--journal FILE]

At each share of the widths, the same for all groups, the error is printed after batch normalisations were measured
anew, and after a short fine-tune. A seed draws the images that the criteria and the recalibration look at, what the
criterion decides by chance, and the order of the fine-tune's images; the base network and the held-out images are
always the same. `--epochs 0` leaves the fine-tune out. With a journal it can be stopped and run again, also with more
seeds or criteria: what was tried with the same settings is not tried again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from hwloop.datasets import DataConfig, ImageData, ImageSet, load_images
from hwloop.datasets.splits import stratified_rows
from hwloop.models import build_model, load_weights
from hwloop.pruning import (
    RECALIBRATED,
    Candidate,
    ErrorEstimator,
    Evidence,
    HeldOut,
    PruningSpace,
    Recalibration,
    get_criterion,
    list_criteria,
    plan_surgery,
    pruning_space,
)
from hwloop.pruning.criteria import CLAD
from hwloop.training import FitConfig, error_count, fit

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@dataclass(frozen=True)
class Trial:
    """One criterion with one seed at one share: errors from 0 to 1, and the seconds that the order took."""

    criterion: str
    seed: int
    share: int
    settings: str
    recalibrated: float
    finetuned: float | None
    seconds: float

    @property
    def key(self) -> tuple[str, int, int, str]:
        """What was tried."""
        return self.criterion, self.seed, self.share, self.settings


def main(arguments: Sequence[str] = ()) -> None:
    """Order, slice, judge, fine-tune; then print the tables."""
    given = _parse(arguments)
    torch.set_num_threads(1)
    console = Console(width=150)
    data = _data(given)
    module = build_model("resnet20", num_classes=10, in_channels=3)
    load_weights(module, given.data / "weights" / "resnet20-jpeg.pt")
    module.eval()
    space = pruning_space(module, data.input_shape).without_blocks()
    base = error_count(module, data.test) / len(data.test)
    console.print(
        f"ResNet-20 with {base:.2%} error on {len(data.test)} test images; criteria look at {given.images} training"
        f" images; {given.epochs} epochs of {given.finetune_images} images; {given.seeds} seeds; one thread"
    )
    known = _known(given.journal)
    trials: list[Trial] = []
    for seed in range(given.seeds):
        evidence = Evidence.drawn(data.train, given.images, seed=seed)
        for name in given.criteria.split(","):
            wanted = [(name, seed, share, _settings(given, name)) for share in map(int, given.shares.split(","))]
            if not known.keys() >= set(wanted):
                for trial in _tried(module, space, evidence, data, given, wanted):
                    known[trial.key] = trial
                    _keep(given.journal, trial)
                    console.print("  " + _line(trial), highlight=False)
            trials += [known[key] for key in wanted]
    if "clad" in given.criteria.split(","):
        _print_learning(module, space, Evidence.drawn(data.train, given.images), console)
    console.print(_summary(trials, base))


def _tried(
    module: nn.Module,
    space: PruningSpace,
    evidence: Evidence,
    data: ImageData,
    given: argparse.Namespace,
    wanted: Sequence[tuple[str, int, int, str]],
) -> Iterator[Trial]:
    """Order the channels once, and try each share."""
    name, seed, _, settings = wanted[0]
    began = time.perf_counter()
    plan = plan_surgery(module, space, get_criterion(name), evidence)
    seconds = time.perf_counter() - began
    judge = ErrorEstimator(RECALIBRATED, plan, Recalibration(data.train, seed=seed), HeldOut(data.test), threads=1)
    for _, _, share, _ in wanted:
        candidate = uniform(space, share)
        finetuned = _finetuned(judge, candidate, data, given, seed) if given.epochs else None
        yield Trial(name, seed, share, settings, judge.estimate(candidate).error, finetuned, seconds)


def _settings(given: argparse.Namespace, name: str) -> str:
    return (
        f"{get_criterion(name)} on {given.images} images; {given.epochs} epochs of {given.finetune_images} images;"
        f" {given.test_images} test images"
    )


def _known(journal: Path | None) -> dict[tuple[str, int, int, str], Trial]:
    if journal is None or not journal.exists():
        return {}
    found = [Trial(**json.loads(line)) for line in journal.read_text().splitlines()]
    return {trial.key: trial for trial in found}


def _keep(journal: Path | None, trial: Trial) -> None:
    if journal is not None:
        with journal.open("a") as stream:
            stream.write(json.dumps(asdict(trial)) + "\n")


def _line(trial: Trial) -> str:
    after = "" if trial.finetuned is None else f", {trial.finetuned:.2%} fine-tuned"
    return f"seed {trial.seed} {trial.criterion} {trial.share} %: {trial.recalibrated:.2%} recalibrated{after}"


def uniform(space: PruningSpace, share: int) -> Candidate:
    """The candidate whose every width is a share of the base width, in per cent, rounded and at least one."""
    return space.candidate(
        [max(1, round(group.width * share / 100 / group.divisor)) * group.divisor for group in space.groups]
    )


def _finetuned(
    judge: ErrorEstimator, candidate: Candidate, data: ImageData, given: argparse.Namespace, seed: int
) -> float:
    network = judge.prepared(candidate)
    train = _some(data.train, given.finetune_images, seed)
    fit(
        network,
        train,
        config=FitConfig(epochs=given.epochs, learning_rate=0.02, augment=True, flip=True, seed=seed, threads=1),
    )
    return error_count(network.eval(), data.test) / len(data.test)


def _print_learning(module: nn.Module, space: PruningSpace, evidence: Evidence, console: Console) -> None:
    began = time.perf_counter()
    learned = CLAD().learn(module, space.groups, evidence)
    seconds = time.perf_counter() - began
    importances = np.concatenate(list(learned.importances.values()))
    poles = float(np.mean((importances < 0.1) | (importances > 0.9)))
    console.print(
        f"CLAD learns in {len(learned.losses)} steps of {evidence.batch_size} images, {seconds:.1f} s"
        f" ({1e3 * seconds / len(learned.losses):.0f} ms a step); {poles:.0%} of {len(importances)} importances are"
        f" within 0.1 of a pole, {np.mean(importances > 0.5):.0%} above one half,"
        f" {learned.work:.1%} of the work is left"
    )


def _summary(trials: Sequence[Trial], base: float) -> Table:
    table = Table("criterion", "seconds", title=f"error in % (base {100 * base:.2f}): mean ± deviation over seeds")
    shares = list(dict.fromkeys(trial.share for trial in trials))
    for share in shares:
        table.add_column(f"{share} % recalibrated", justify="right")
        if trials[0].finetuned is not None:
            table.add_column(f"{share} % fine-tuned", justify="right")
    for name in dict.fromkeys(trial.criterion for trial in trials):
        own = [trial for trial in trials if trial.criterion == name]
        cells = [f"{statistics.median(trial.seconds for trial in own):.2f}"]
        for share in shares:
            there = [trial for trial in own if trial.share == share]
            cells.append(_spread([trial.recalibrated for trial in there]))
            if there[0].finetuned is not None:
                cells.append(_spread([trial.finetuned for trial in there if trial.finetuned is not None]))
        table.add_row(name, *cells)
    return table


def _spread(errors: Sequence[float]) -> str:
    mean = f"{100 * statistics.fmean(errors):.1f}"
    return mean if len(errors) == 1 else f"{mean} ± {100 * statistics.stdev(errors):.1f}"


def _data(given: argparse.Namespace) -> ImageData:
    folder = given.data / "cifar10"
    return load_images(
        DataConfig(
            "parquet",
            folder / "cifar10-train.parquet",
            folder / "cifar10-test.parquet",
            limit=max(given.test_images, given.finetune_images + 1000),
            validation=500,
            mean=MEAN,
            std=STD,
        )
    )


def _some(images: ImageSet, count: int, seed: int) -> ImageSet:
    return images.take(stratified_rows(images.labels, min(count, len(images)), seed))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="criteria")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("HWLOOP_SHARED_DATA", SHARED)))
    parser.add_argument("--criteria", default=",".join(list_criteria()))
    parser.add_argument("--shares", default="75,50")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--finetune-images", type=int, default=4000)
    parser.add_argument("--test-images", type=int, default=5000)
    parser.add_argument("--journal", type=Path)
    return parser.parse_args(list(arguments))

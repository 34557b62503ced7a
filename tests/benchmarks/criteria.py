"""Criteria on CIFAR-10: which order of channels loses least, and what does it cost to find?

python -m tests.benchmarks criteria [--data DIR] [--network resnet20] [--weights FILE]
                                    [--criteria l1,clad,…] [--seeds 3] [--shares 75,50 | --candidates FILE,…]
                                    [--macs 0.47] [--images 512] [--epochs 1] [--finetune-images 4000]
                                    [--rate 0.02] [--distillation 0] [--judge test] [--judge-images 10000]
                                    [--journal FILE] [--learning]

Every criterion is tried in the same networks, so that they differ in nothing but the channels that stay: a share of
all widths (in per cent), what `hwloop prune --speed-up 2x … --json` found to be so fast and printed into a file, or the
first rung of that command's ladder with a share of the multiply-accumulates. In each the error is counted after batch
normalisations were measured anew, and after a fine-tune. A seed draws the images that the criterion and the
recalibration look at, what the criterion decides by chance, and the images of the fine-tune and their order. A
criterion may have settings, as in `clad:attention=1000:polarisation=1`; settings are to be chosen on `--judge held-out`
images, which the networks never saw either. `--epochs 0` leaves the fine-tune out.

With a journal it can be stopped and run again, also with more seeds or criteria: what was tried with the same settings
is not tried again, and is in the tables. It also holds the curves of all fine-tunes.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from hwloop.datasets import ImageData, ImageSet
from hwloop.datasets.splits import stratified_rows
from hwloop.extraction import ONNXRUNTIME_X86, network_from_torch
from hwloop.pruning import (
    RECALIBRATED,
    Candidate,
    ErrorEstimator,
    Evidence,
    HeldOut,
    PruningSpace,
    Recalibration,
    SurgeryPlan,
    foldable_pairs,
    get_criterion,
    list_criteria,
    plan_surgery,
    pruning_space,
)
from hwloop.pruning.criteria import CLAD, Criterion
from hwloop.pruning.ladder import first_rung
from hwloop.study.speedup import rungs_of
from hwloop.training import fit
from tests.benchmarks import cifar

CURVE_IMAGES = 1000
"""Judged after every epoch; what is told in the end is counted on all."""


@dataclass(frozen=True)
class Target:
    """A network that the criteria are tried in."""

    name: str
    candidate: Candidate


@dataclass(frozen=True)
class Trial:
    """One criterion with one seed in one network: errors from 0 to 1, and the seconds that the order took.

    Attributes:
        curve: of the fine-tune, by epoch: the error on some judged images, the mean training loss, the share of
            training images that were classified correctly.
    """

    criterion: str
    seed: int
    target: str
    candidate: str
    settings: str
    recalibrated: float
    finetuned: float | None
    seconds: float
    curve: list[list[float]]

    @property
    def key(self) -> tuple[str, int, str, str]:
        """What was tried."""
        return self.criterion, self.seed, self.candidate, self.settings


class Curve:
    """A `Progress` of `fit` that judges the network after every epoch."""

    def __init__(self, network: nn.Module, judged: HeldOut, pairs: Sequence[tuple[str, str]], epochs: int) -> None:
        self.errors: list[float] = []
        self._network, self._judged, self._pairs, self._epochs = network, judged, pairs, epochs
        self._steps = self._total = 0

    @contextmanager
    def step(self, description: str, total: int, done: int = 0) -> Iterator[Curve]:
        """See `Progress.step`."""
        self._steps, self._total = done, total
        yield self

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Judge a copy where an epoch is full."""
        self._steps += amount
        if self._steps % (self._total // self._epochs) == 0:
            self.errors.append(_error(copy.deepcopy(self._network), self._judged, self._pairs))

    def say(self, line: str) -> None:
        """See `Progress.say`."""


@dataclass(frozen=True)
class Laboratory:
    """The base network, its images, and how it is all done."""

    module: nn.Module
    space: PruningSpace
    data: ImageData
    judged: HeldOut
    watched: HeldOut
    given: argparse.Namespace

    @property
    def settings(self) -> str:
        """What all trials have in common, as text."""
        given = self.given
        of = f" of {given.weights.name}" if given.weights else ""
        return (
            f"{given.network}{of}; criteria look at {given.images} training images; {given.epochs} epochs of"
            f" {given.finetune_images} images, rate {given.rate:g}, distillation {given.distillation:g}; judged on"
            f" {len(self.judged)} {given.judge} images in {self.judged.conditions['judge_dtype']}"
        )

    def tried(self, name: str, criterion: Criterion, seed: int, targets: Sequence[Target]) -> Iterator[Trial]:
        """Order the channels once, and try each network."""
        evidence = Evidence.drawn(self.data.train, self.given.images, seed=seed)
        began = time.perf_counter()
        plan = plan_surgery(self.module, self.space, criterion, evidence)
        seconds = time.perf_counter() - began
        judge = ErrorEstimator(RECALIBRATED, plan, Recalibration(self.data.train, seed=seed), self.judged, threads=1)
        for target in targets:
            text = self.space.text(target.candidate)
            recalibrated = judge.estimate(target.candidate).error
            finetuned, curve = self._finetuned(judge.prepared(target.candidate), seed)
            yield Trial(name, seed, target.name, text, self.settings, recalibrated, finetuned, seconds, curve)

    def _finetuned(self, network: nn.Module, seed: int) -> tuple[float | None, list[list[float]]]:
        given = self.given
        if not given.epochs:
            return None, []
        config = cifar.finetune(given, seed)
        pairs = foldable_pairs(self.module, cifar.SHAPE)
        curve = Curve(network, self.watched, pairs, given.epochs)
        train = _some(self.data.train, given.finetune_images, seed)
        report = fit(network, train, config=config, teacher=self.module if config.taught else None, progress=curve)
        told = [list(one) for one in zip(curve.errors, report.losses, report.accuracies, strict=True)]
        return _error(network, self.judged, pairs), told


def main(arguments: Sequence[str] = ()) -> None:
    """Order, slice, judge, fine-tune; then print the tables."""
    given = _parse(arguments)
    torch.set_num_threads(1)
    console = Console(width=170)
    data = cifar.images(given.data, max(given.finetune_images, given.images, 1000))
    module = cifar.network(given.network, given.data, given.weights)
    space = pruning_space(module, cifar.SHAPE)
    images = data.test if given.judge == "test" else data.validation
    judged, watched = (HeldOut(images, limit=limit) for limit in (given.judge_images, CURVE_IMAGES))
    laboratory = Laboratory(module, space, data, judged, watched, given)
    base = _error(copy.deepcopy(module), judged, foldable_pairs(module, cifar.SHAPE))
    console.print(f"{laboratory.settings}; base {base:.2%}; one thread", highlight=False)
    targets = _targets(module, space, data, given)
    for target in targets:
        console.print(f"  {target.name}: {_size(module, plan_surgery(module, space), target, space)}", highlight=False)
    known = _known(given.journal)
    for seed in range(given.seeds):
        for name in given.criteria.split(","):
            criterion = _criterion(name)
            missing = [
                one
                for one in targets
                if (str(criterion), seed, space.text(one.candidate), laboratory.settings) not in known
            ]
            for trial in laboratory.tried(str(criterion), criterion, seed, missing) if missing else ():
                known[trial.key] = trial
                _keep(given.journal, trial)
                console.print("  " + _line(trial), highlight=False)
    if given.learning:
        _print_learning(module, space, Evidence.drawn(data.train, given.images), console)
    shown = [one for one in known.values() if one.settings == laboratory.settings]
    for target in targets:
        there = [one for one in shown if one.candidate == space.text(target.candidate)]
        console.print(_summary(target, there, base))
        _print_pairs(there, console)
        _print_curves(there, console)


def _targets(module: nn.Module, space: PruningSpace, data: ImageData, given: argparse.Namespace) -> list[Target]:
    targets = [Target(f"{share} % of all widths", uniform(space, int(share))) for share in _parts(given.shares)]
    for path in map(Path, _parts(given.candidates)):
        found = json.loads(path.read_text())
        speed = found["speed_up"]
        name = "not measured" if speed is None else f"{speed['value']:.2f}x measured"
        targets.append(Target(f"{path.stem} ({name})", space.parse(found["candidate"])))
    if given.macs:
        plan = plan_surgery(module, space)
        rungs = rungs_of(plan, pruning_space(module, cifar.SHAPE, grain=8), data, seed=0)
        whole = _macs(module)
        for share in map(float, _parts(given.macs)):
            rung = first_rung(len(rungs), lambda one, share=share: _macs(plan.apply(rungs[one])) <= share * whole)  # type: ignore[misc]
            assert rung is not None, f"the smallest network of the ladder has more than {share:.0%} of the MACs"
            targets.append(Target(f"{share:.0%} of the MACs", rungs[rung]))
    return targets


def _size(module: nn.Module, plan: SurgeryPlan, target: Target, space: PruningSpace) -> str:
    small = plan.apply(target.candidate)
    macs = _macs(small) / _macs(module)
    weights = sum(one.numel() for one in small.parameters()) / sum(one.numel() for one in module.parameters())
    return f"{macs:.1%} of the MACs, {weights:.1%} of the parameters: {space.text(target.candidate)}"


def _macs(module: nn.Module) -> int:
    return network_from_torch(module, cifar.SHAPE, rules=ONNXRUNTIME_X86).macs


def _criterion(text: str) -> Criterion:
    """A criterion from "clad" or "clad:attention=1000:polarisation=1"."""
    name, *settings = text.split(":")
    given: dict[str, Any] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        given[key] = json.loads(value)
    return get_criterion(name, given)


def _error(network: nn.Module, judged: HeldOut, pairs: Sequence[tuple[str, str]]) -> float:
    """Count mistakes; the network cannot be trained any more."""
    judged.ready(network.eval(), pairs)
    return judged.errors(network, 0, len(judged)) / len(judged)


def _known(journal: Path | None) -> dict[tuple[str, int, str, str], Trial]:
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
    return f"seed {trial.seed} {_told(trial.criterion)}, {trial.target}: {trial.recalibrated:.2%} recalibrated{after}"


def _told(criterion: str) -> str:
    """The name alone of a criterion whose settings are the defaults."""
    return next((name for name in list_criteria() if str(get_criterion(name)) == criterion), criterion)


def uniform(space: PruningSpace, share: int) -> Candidate:
    """The candidate whose every width is a share of the base width, in per cent, rounded and at least one."""
    return space.candidate(
        [max(1, round(group.width * share / 100 / group.divisor)) * group.divisor for group in space.groups]
    )


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


def _summary(target: Target, trials: Sequence[Trial], base: float) -> Table:
    table = Table(
        "criterion", "seeds", "s to order", title=f"{target.name}: error in %, base {100 * base:.2f}", box=None
    )
    for column in ("recalibrated", "fine-tuned", "above the base"):
        table.add_column(column, justify="right")
    for name in dict.fromkeys(trial.criterion for trial in trials):
        own = [trial for trial in trials if trial.criterion == name]
        tuned = [trial.finetuned for trial in own if trial.finetuned is not None]
        table.add_row(
            _told(name),
            str(len(own)),
            f"{statistics.median(trial.seconds for trial in own):.2f}",
            _spread([trial.recalibrated for trial in own]),
            _spread(tuned),
            f"{100 * (statistics.fmean(tuned) - base):+.2f}" if tuned else "",
        )
    return table


def _print_pairs(trials: Sequence[Trial], console: Console) -> None:
    """CLAD against each other criterion, seed by seed."""
    for name in dict.fromkeys(trial.criterion for trial in trials if not trial.criterion.startswith("CLAD")):
        other = {trial.seed: trial.finetuned for trial in trials if trial.criterion == name}
        for learned in dict.fromkeys(trial.criterion for trial in trials if trial.criterion.startswith("CLAD")):
            lost = [
                100 * (trial.finetuned - plain)
                for trial in trials
                if trial.criterion == learned and trial.finetuned is not None
                if (plain := other.get(trial.seed)) is not None
            ]
            if len(lost) > 1:
                error = statistics.stdev(lost) / len(lost) ** 0.5
                console.print(
                    f"  {_told(learned)} against {_told(name)}: {statistics.fmean(lost):+.2f} ± {error:.2f} points of"
                    f" error (mean and standard error of {len(lost)} seeds)",
                    highlight=False,
                )


def _print_curves(trials: Sequence[Trial], console: Console) -> None:
    for name in dict.fromkeys(trial.criterion for trial in trials if trial.curve):
        curves = [[point[0] for point in trial.curve] for trial in trials if trial.criterion == name]
        means = [f"{100 * statistics.fmean(errors):.1f}" for errors in zip(*curves, strict=True)]
        console.print(f"  {_told(name)}, error after each epoch: {' '.join(means)}", highlight=False)


def _spread(errors: Sequence[float]) -> str:
    if not errors:
        return ""
    mean = f"{100 * statistics.fmean(errors):.2f}"
    return mean if len(errors) == 1 else f"{mean} ± {100 * statistics.stdev(errors):.2f}"


def _parts(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def _some(images: ImageSet, count: int, seed: int) -> ImageSet:
    return images.take(stratified_rows(images.labels, min(count, len(images)), seed))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks criteria", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("HWLOOP_SHARED_DATA", cifar.SHARED)))
    parser.add_argument("--network", default="resnet20", help="resnet20 or resnet56, or of --weights")
    parser.add_argument("--weights", type=Path, help="that `hwloop train` wrote; else those of the data folder")
    parser.add_argument("--criteria", default=",".join(list_criteria()))
    parser.add_argument("--shares", default="", help="of all widths, in per cent; 75,50 where nothing else is given")
    parser.add_argument("--candidates", default="", help="files that `hwloop prune --json` printed")
    parser.add_argument("--macs", default="", help="shares of the base's, 0 to 1")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=512, help="that criteria look at")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--finetune-images", type=int, default=4000, help="of each epoch")
    parser.add_argument("--rate", type=float, default=0.02)
    parser.add_argument("--distillation", type=float, default=0.0, help="weight of the base's answers")
    parser.add_argument("--judge", choices=("test", "held-out"), default="test")
    parser.add_argument("--judge-images", type=int, default=10000)
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--learning", action="store_true", help="tell how CLAD's learners end")
    given = parser.parse_args(list(arguments))
    if not (given.shares or given.candidates or given.macs):
        given.shares = "75,50"
    return given

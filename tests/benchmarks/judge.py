"""The judge on CIFAR-10: what an estimate costs, what shared weights change, and which fidelity ranks as training does.

python -m tests.benchmarks judge [--data DIR] [--folder DIR] [--parts speed,weights,ranking,start] [--candidates 6]
                                 [--random 16] [--images 4000] [--held-out 2000] [--adaptation-epochs 2]
                                 [--adaptation-rate 0.03] [--teacher full] [--epochs 1] [--rate 0.03]
                                 [--short-images 1000] [--band 0.35-0.5] [--grain 4] [--widths-only] [--threads 1]
                                 [--seed 0]

The networks are those that were adapted to the JPEG images; candidates are judged on images that those never saw. With
a folder it can be stopped and run again, also with more candidates: shared weights and estimates are kept there.

- speed: one estimate of ResNet-56 (512 images to recalibrate, 2,000 to judge), and how often its classes are those of
  float32.
- weights: errors of random candidates of ResNet-20 of all sizes, before and after the shared-weights adaptation.
- ranking: Kendall's tau of each fidelity with the full fine-tune, in a band of MACs, and what each costs.
- start: whether the same fine-tune ends better from the shared weights than from the base.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from hwloop.cli.display import Display
from hwloop.datasets import ImageSet
from hwloop.extraction.blocks import Branch, blocks_from_torch
from hwloop.layers import ScalableNetwork
from hwloop.pruning import (
    FULL_FINE_TUNE,
    RECALIBRATED,
    SHARED_WEIGHTS,
    SHORT_FINE_TUNE,
    AdaptationConfig,
    Candidate,
    ErrorEstimator,
    FineTuning,
    HeldOut,
    PruningSpace,
    Recalibration,
    SurgeryPlan,
    adapt,
    foldable_pairs,
    plan_surgery,
    pruning_space,
)
from hwloop.pruning.proxy import Contender, Judged, compare
from hwloop.runtimes import get_runtime
from hwloop.study.proxy_stage import Band, draw_in_band
from hwloop.training import FitConfig, predictions
from hwloop_agent.journal import Journal
from tests.benchmarks import cifar
from tests.benchmarks.timing import milliseconds, spread

FROM_SHARED = "full-fine-tune-from-shared"


@dataclass(frozen=True)
class Subject:
    """ResNet-20, its candidates and its images."""

    plan: SurgeryPlan
    space: PruningSpace
    train: ImageSet
    held_out: HeldOut
    given: argparse.Namespace
    folder: Path
    console: Console

    def adapted(self) -> tuple[SurgeryPlan, float]:
        """The shared weights and the seconds that they took."""
        given = self.given
        fitting = FitConfig(
            given.adaptation_epochs, given.adaptation_rate, augment=True, flip=True, seed=given.seed, device="cpu"
        )
        found = adapt(
            self.plan,
            self.space,
            self.train,
            config=AdaptationConfig(fitting, teacher=given.teacher),
            checkpoint=self.folder / "shared.pt",
            progress=Display(self.console),
        )
        return found.plan, found.seconds

    def recalibrating(self) -> Recalibration:
        """The preparation of the two cheap fidelities."""
        return Recalibration(self.train, seed=self.given.seed)

    def tuning(self, images: int | None = None, epochs: int | None = None) -> FineTuning:
        """The preparation of the two dear ones."""
        given = self.given
        fitting = FitConfig(epochs or given.epochs, given.rate, augment=True, flip=True, seed=given.seed, device="cpu")
        return FineTuning(self.train, fitting, images=images)


def main(arguments: Sequence[str] = ()) -> None:
    """Print the parts that are asked for."""
    given = _parse(arguments)
    torch.set_num_threads(given.threads)
    console = Console(width=150)
    parts = given.parts.split(",")
    with ExitStack() as stack:
        folder = Path(given.folder or stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        images = cifar.images(given.data, given.images)
        train, held_out = images.train, images.validation
        console.print(
            f"{len(train)} training images, {min(given.held_out, len(held_out))} held out; {given.threads} thread(s),"
            f" seed {given.seed}",
            highlight=False,
        )
        if "speed" in parts:
            _speed(given, train, held_out, console)
        if set(parts) & {"weights", "ranking", "start"}:
            module = cifar.network("resnet20", given.data)
            space = pruning_space(module, cifar.SHAPE, grain=given.grain, minimum_fraction=0.125)
            space = space.without_blocks() if given.widths_only else space
            held = HeldOut(held_out, limit=given.held_out, seed=given.seed)
            subject = Subject(plan_surgery(module, space), space, train, held, given, folder, console)
            journal = stack.enter_context(Journal.open(folder / "estimates.ndjson"))
            for name, part in (("weights", _weights), ("ranking", _ranking), ("start", _start)):
                if name in parts:
                    part(subject, journal)


def _speed(given: argparse.Namespace, train: ImageSet, held_out: ImageSet, console: Console) -> None:
    """One estimate of ResNet-56, and the classes of the fast form beside those of plain float32."""
    module = cifar.network("resnet56", given.data)
    space = pruning_space(module, cifar.SHAPE, grain=given.grain)
    plan = plan_surgery(module, space)
    pairs = foldable_pairs(module, cifar.SHAPE)
    fast, exact = (HeldOut(held_out, limit=2000, fast=fast) for fast in (True, False))
    quick, careful = (
        ErrorEstimator(RECALIBRATED, plan, Recalibration(train, fast=form is fast), form) for form in (fast, exact)
    )
    for estimator, repetitions in ((quick, 3), (careful, 1)):
        times = milliseconds(partial(estimator.evaluate, space.base), repetitions)
        name = estimator.conditions["judge_dtype"]
        console.print(f"ResNet-56, one estimate, {name}: {spread(times)}", highlight=False)
    images = held_out.take(np.random.default_rng(0).permutation(len(held_out))[:2000])  # in the order of `HeldOut`
    drawn = space.random(np.random.default_rng(given.seed))
    for what, candidate in (("the base", space.base), ("a random candidate", drawn)):
        plain, folded, rough, fastest = (one.prepared(candidate) for one in (careful, careful, careful, quick))
        for network, form in ((folded, exact), (rough, fast), (fastest, fast)):
            form.ready(network, pairs)
        bfloat16 = fast.conditions["judge_dtype"]
        truth = predictions(plain, images)
        for label, classify in (
            ("float32, as it is", partial(predictions, plain, images)),
            ("float32, folded, channels last", partial(exact.predictions, folded)),
            (f"{bfloat16}, folded, channels last", partial(fast.predictions, rough)),
            (f"the same, recalibrated in {bfloat16} too", partial(fast.predictions, fastest)),
        ):
            times = milliseconds(classify, 1)
            found = classify()
            console.print(
                f"  {what}, {label}: {spread(times)}; top-1 agreement with float32 {(found == truth).mean():.2%}, error"
                f" {(found != images.labels).mean():.2%}",
                highlight=False,
            )


def _weights(subject: Subject, journal: Journal) -> None:
    """Errors of random candidates of all sizes, before and after the adaptation."""
    rng = np.random.default_rng(subject.given.seed)
    drawn = [subject.space.base, subject.space.smallest]
    drawn += [subject.space.random(rng) for _ in range(subject.given.random)]
    before, after = _compared(subject, journal, drawn, [_recalibrated, _shared])
    for one in (before, after):
        errors = [estimate.error for estimate in one.estimates]
        quartiles = np.quantile(errors[2:], [0.1, 0.25, 0.5, 0.75, 0.9])
        subject.console.print(
            f"{one.fidelity}: base {errors[0]:.3f}, smallest {errors[1]:.3f}; {len(errors) - 2} random candidates:"
            f" median {quartiles[2]:.3f}, quartiles {quartiles[1]:.3f} to {quartiles[3]:.3f}, nine tenths"
            f" {quartiles[0]:.3f} to {quartiles[4]:.3f}; {one.seconds:.2f} s each, {one.once_s:.0f} s once",
            highlight=False,
        )


def _ranking(subject: Subject, journal: Journal) -> None:
    """Kendall's tau and cost of every fidelity, in a band."""
    drawn = _in_band(subject)
    judged = _compared(subject, journal, drawn, [_recalibrated, _shared, _short, _full])
    table = Table("fidelity", "tau", "95 % interval", "median error", "s each", "s once", box=None)
    for one in judged:
        tau = ("the truth", "") if one.agreement is None else _tau(one)
        table.add_row(one.fidelity, *tau, f"{one.median_error:.3f}", f"{one.seconds:.2f}", f"{one.once_s:.0f}")
    subject.console.print(
        f"{len(drawn)} candidates of {subject.given.band} of the MACs; full fine-tune: {subject.given.epochs} epochs"
    )
    subject.console.print(table)


def _start(subject: Subject, journal: Journal) -> None:
    """The same fine-tune from shared weights and from the base: paired differences."""
    shared, base = _compared(subject, journal, _in_band(subject), [_full_from_shared, _full])
    lost = [one.error - other.error for one, other in zip(shared.estimates, base.estimates, strict=True)]
    error = statistics.stdev(lost) / len(lost) ** 0.5
    subject.console.print(
        f"fine-tuned alike: from the base median error {base.median_error:.4f}, from the shared weights"
        f" {shared.median_error:.4f}; difference {statistics.fmean(lost):+.4f} ± {error:.4f} (mean and standard error"
        f" of {len(lost)} pairs, positive: shared is worse); better from shared {sum(one < 0 for one in lost)} times",
        highlight=False,
    )


def _compared(
    subject: Subject,
    journal: Journal,
    drawn: Sequence[Candidate],
    makers: Sequence[Callable[[Subject], Contender]],
) -> tuple[Judged, ...]:
    contenders = [partial(make, subject) for make in makers]
    context = {"images": str(len(subject.train))}
    return compare(contenders, drawn, subject.space, journal, Display(subject.console), context)


def _recalibrated(subject: Subject) -> Contender:
    return Contender(ErrorEstimator(RECALIBRATED, subject.plan, subject.recalibrating(), subject.held_out))


def _shared(subject: Subject) -> Contender:
    plan, seconds = subject.adapted()
    return Contender(ErrorEstimator(SHARED_WEIGHTS, plan, subject.recalibrating(), subject.held_out), seconds)


def _short(subject: Subject) -> Contender:
    tuning = subject.tuning(subject.given.short_images, 1)
    return Contender(ErrorEstimator(SHORT_FINE_TUNE, subject.plan, tuning, subject.held_out))


def _full(subject: Subject) -> Contender:
    return Contender(ErrorEstimator(FULL_FINE_TUNE, subject.plan, subject.tuning(), subject.held_out))


def _full_from_shared(subject: Subject) -> Contender:
    plan, seconds = subject.adapted()
    return Contender(ErrorEstimator(FROM_SHARED, plan, subject.tuning(), subject.held_out), seconds)


def _in_band(subject: Subject) -> list[Candidate]:
    given, space = subject.given, subject.space
    low, high = map(float, given.band.split("-"))

    branches = [Branch(block.name, frozenset(block.layers), block.drops_activation) for block in space.blocks]
    rules = get_runtime("onnxruntime").fusion
    found = blocks_from_torch(subject.plan.module, cifar.SHAPE, branches, rules=rules)
    sizes = ScalableNetwork(found.network, [group.roots for group in space.groups], found.blocks, found.alternatives)

    def macs(candidates: Sequence[Candidate]) -> NDArray[np.float64]:
        widths, remains = space.arrays(candidates)
        return sizes.macs(widths, remains).astype(np.float64)

    return draw_in_band(space, macs, Band(low, high), given.candidates, given.seed)


def _tau(one: Judged) -> tuple[str, str]:
    assert one.agreement is not None
    return f"{one.agreement.tau:+.2f}", f"{one.agreement.low:+.2f} to {one.agreement.high:+.2f}"


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks judge", description=__doc__)
    parser.add_argument("--data", type=Path, default=cifar.SHARED)
    parser.add_argument("--folder", type=Path, help="of shared weights and estimates; a temporary one by default")
    parser.add_argument("--parts", default="speed,weights,ranking,start")
    parser.add_argument("--candidates", type=int, default=6, help="in the band")
    parser.add_argument("--random", type=int, default=16, help="candidates of all sizes, before and after")
    parser.add_argument("--images", type=int, default=4000, help="for training")
    parser.add_argument("--held-out", type=int, default=2000, help="at most 5000")
    parser.add_argument("--adaptation-epochs", type=int, default=2)
    parser.add_argument("--adaptation-rate", type=float, default=0.03)
    parser.add_argument("--teacher", choices=("full", "base"), default="full")
    parser.add_argument("--epochs", type=int, default=1, help="of the full fine-tune")
    parser.add_argument("--rate", type=float, default=0.03, help="of both fine-tunes")
    parser.add_argument("--short-images", type=int, default=1000, help="one epoch of the short fine-tune")
    parser.add_argument("--band", default="0.35-0.5", help="shares of the base's MACs")
    parser.add_argument("--grain", type=int, default=4)
    parser.add_argument("--widths-only", action="store_true", help="no blocks are removed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(list(arguments))

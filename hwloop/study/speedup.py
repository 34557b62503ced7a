"""How much faster a pruned network is on a device, and which is fast enough: measured, never computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from hwloop.datasets import ImageData
from hwloop.errors import DeviceError, UserError
from hwloop.extraction import export_onnx
from hwloop.measurement import Bench, Interval, Measurement, Subject, judge
from hwloop.progress import Progress
from hwloop.pruning import (
    RECALIBRATED,
    Candidate,
    ErrorEstimator,
    HeldOut,
    PruningSpace,
    Recalibration,
    SurgeryPlan,
)
from hwloop.pruning.ladder import first_rung, ladder
from hwloop.runtimes import Artifact, Runtime

FINAL_PROCESSES = 4
"""Of the number that is told; those on the way to it take the plan's."""

JUDGED_IMAGES = 2000
"""Held-out images that say which block is missed least."""


@dataclass(frozen=True)
class SpeedUp:
    """Latency of the base over that of the pruned network.

    Attributes:
        value: the ratio of the medians.
        interval: from the ends of both latencies' intervals, the most careful reading.
        verdict: whether the pruned network is "faster", "slower" or "within noise".
        base_ms: latency of the base.
        pruned_ms: of the pruned network.
    """

    value: float
    interval: Interval
    verdict: str
    base_ms: float
    pruned_ms: float


@dataclass(frozen=True)
class Stopwatch:
    """Measures candidates of one network against it, in one runtime on one device.

    Attributes:
        plan: makes the candidates.
        space: names them.
        input_shape: (channels, height, width).
        runtime: for this device.
        bench: the device.
    """

    plan: SurgeryPlan
    space: PruningSpace
    input_shape: tuple[int, int, int]
    runtime: Runtime
    bench: Bench

    def speed_up(self, candidate: Candidate, processes: int | None = None) -> SpeedUp:
        """Measure a candidate and its base in one campaign; what was measured before counts.

        Raises:
            DeviceError: One of them gave no number.
        """
        subjects = {"base": self.plan.module, self.space.text(candidate): self.plan.apply(candidate)}
        found = self.bench.measure(
            [Subject(name, self._artifact(module, name)) for name, module in subjects.items()],
            f"base and {len(subjects) - 1} candidate",
            processes,
        )
        base, pruned = (found[name] for name in subjects)
        return compared(base, pruned)

    def _artifact(self, module: nn.Module, name: str) -> Artifact:
        return self.runtime.onnx(export_onnx(module.eval(), self.input_shape, fold=True), name)


def compared(base: Measurement, pruned: Measurement) -> SpeedUp:
    """The speed-up that two measurements of one campaign show.

    Raises:
        DeviceError: One of them gave no number.
    """
    ratio = judge(_numbers(_usable(base)), _numbers(_usable(pruned)), None)
    interval = Interval(1 / ratio.interval.high, 1 / ratio.interval.low)
    return SpeedUp(1 / ratio.value, interval, ratio.verdict, base.latency_ms, pruned.latency_ms)


def fast_enough(
    stopwatch: Stopwatch, rungs: Sequence[Candidate], wanted: float, progress: Progress
) -> tuple[Candidate, SpeedUp]:
    """Find the largest network of a ladder with a measured speed-up, and measure it well.

    Where the better measurement of the found rung falls short, the next smaller one is taken.

    Raises:
        UserError: Not even the smallest is fast enough.
    """

    def reaches(rung: int) -> bool:
        if rungs[rung] == rungs[0]:
            return False
        found = stopwatch.speed_up(rungs[rung])
        progress.say(f"{found.value:.2f}x ({found.interval.low:.2f}–{found.interval.high:.2f}): rung {rung}")
        return found.value >= wanted

    first = first_rung(len(rungs), reaches)
    for rung in range(first, len(rungs)) if first is not None else ():
        found = stopwatch.speed_up(rungs[rung], FINAL_PROCESSES)
        if found.value >= wanted:
            return rungs[rung], found
    smallest = stopwatch.speed_up(rungs[-1]) if len(rungs) > 1 else None
    told = f"the smallest network of the ladder is {smallest.value:.2f}x as fast" if smallest else "nothing can be cut"
    raise UserError(f"{wanted:g}x cannot be reached: {told}; take a smaller --grain, or another runtime")


def rungs_of(plan: SurgeryPlan, space: PruningSpace, data: ImageData, seed: int) -> tuple[Candidate, ...]:
    """The ladder of a network: blocks go in the order in which they are missed least.

    How much a block is missed is the error on held-out images without it, batch normalisations measured anew.
    """
    if not space.blocks:
        return ladder(space)
    images = data.validation.take(np.arange(min(JUDGED_IMAGES, len(data.validation))))
    judged = ErrorEstimator(RECALIBRATED, plan, Recalibration(data.train, seed=seed), HeldOut(images, seed=seed))
    errors = {
        block.name: judged.estimate(
            space.candidate(space.base.widths, [one.name != block.name for one in space.blocks])
        ).error
        for block in space.blocks
    }
    return ladder(space, sorted(errors, key=lambda name: errors[name]))


def _usable(found: Measurement) -> Measurement:
    if not found.usable:
        raise DeviceError(f"{found.key}: {found.status}: {'; '.join(found.reasons)}")
    return found


def _numbers(found: Measurement) -> tuple[float, float, float]:
    return found.interval_ms.low, found.latency_ms, found.interval_ms.high

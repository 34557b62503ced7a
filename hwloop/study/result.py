"""What a study found, as plain data that the report and the terminal show."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwloop.measurement import Interval, Measurement
from hwloop.study.table_stage import GrainSweep


@dataclass(frozen=True)
class NetworkResult:
    """One exported network: the base or a member of the front.

    Attributes:
        name: file stem under ``models/``.
        text: the candidate as text; with the base weights it rebuilds the network.
        correct: test images classified correctly by the exported file in onnxruntime.
        images: number of test images.
        validation_error: the search's estimate, before fine-tuning (fraction).
        parameters, macs: of the network (MACs: one multiply-accumulate counts 1).
        predicted_ms, predicted_interval_ms, predicted_peak_bytes: by the predictor.
        measured: the exported file on the device, all processes pooled.
    """

    name: str
    text: str
    correct: int
    images: int
    validation_error: float
    parameters: int
    macs: int
    predicted_ms: float
    predicted_interval_ms: Interval
    predicted_peak_bytes: int
    measured: Measurement

    @property
    def test_accuracy(self) -> float:
        """Fraction of the test images that the exported file classifies correctly."""
        return self.correct / self.images

    def points_lost(self, base: NetworkResult) -> float:
        """Percentage points of test accuracy below the base network (negative: above it)."""
        return 100 * (base.correct - self.correct) / self.images

    def speedup(self, base: NetworkResult) -> tuple[float, Interval]:
        """Latency of the base over that of this network: median over the interleaved processes, and its envelope.

        The interval divides the ends of the two latency intervals: the most careful reading of both.
        """
        mine, theirs = self.measured, base.measured
        pairs = list(zip(theirs.process_medians_ms, mine.process_medians_ms, strict=False))
        ratio = statistics.median(b / m for b, m in pairs)
        return ratio, Interval(
            theirs.interval_ms.low / mine.interval_ms.high, theirs.interval_ms.high / mine.interval_ms.low
        )

    def is_faster(self, base: NetworkResult) -> bool:
        """Whether it is measurably faster: the two latency intervals do not touch."""
        return self.measured.interval_ms.high < base.measured.interval_ms.low

    def row(self, base: NetworkResult) -> dict[str, Any]:
        """This network as flat data, compared with the base: a row of ``front.csv``."""
        ratio, interval = self.speedup(base)
        return {
            "name": self.name,
            "candidate": self.text,
            "test_accuracy": self.test_accuracy,
            "test_correct": self.correct,
            "test_images": self.images,
            "points_lost": self.points_lost(base),
            "parameters": self.parameters,
            "macs": self.macs,
            "predicted_ms": self.predicted_ms,
            "predicted_low_ms": self.predicted_interval_ms.low,
            "predicted_high_ms": self.predicted_interval_ms.high,
            "measured_ms": self.measured.latency_ms,
            "measured_low_ms": self.measured.interval_ms.low,
            "measured_high_ms": self.measured.interval_ms.high,
            "measured_status": self.measured.status,
            "speedup": ratio,
            "speedup_low": interval.low,
            "speedup_high": interval.high,
            "faster": self.is_faster(base),
            "peak_bytes": self.measured.peak_bytes,
            "model_bytes": self.measured.model_bytes,
            "predicted_peak_bytes": self.predicted_peak_bytes,
            "energy_mj": self.measured.energy_mj,
        }


@dataclass(frozen=True)
class Holdout:
    """A held-out network: what was predicted and what was measured."""

    text: str
    predicted_ms: float
    low_ms: float
    high_ms: float
    sum_of_layers_ms: float
    measured_ms: float
    predicted_peak_bytes: float
    measured_peak_bytes: float


@dataclass(frozen=True)
class StudyResult:
    """Everything the report shows.

    Attributes:
        base: the unpruned network, exported and measured like the others.
        networks: the front: fine-tuned, exported, measured; fastest first.
        candidates: all evaluated candidates: text and objective values by name.
        measured_front: the front's members that were measured before the choice (text, error, predicted, measured).
        hypervolume: per generation.
        holdout: held-out networks; `predictor` has the summary of their errors.
        grain: the sweep that showed the device's step of widths.
        conditions: of the device and the software, for the report's foot.
        max_points: networks that lose more points of accuracy than this do not count as equally good.
    """

    name: str
    settings: Mapping[str, Any]
    base: NetworkResult
    networks: tuple[NetworkResult, ...]
    objectives: tuple[str, ...]
    candidates: Sequence[Mapping[str, Any]]
    measured_front: Sequence[Mapping[str, Any]]
    hypervolume: Sequence[float]
    holdout: Sequence[Holdout]
    predictor: Mapping[str, Any]
    grain: GrainSweep
    conditions: Mapping[str, Any]
    notes: tuple[str, ...]
    max_points: float = 1.0

    @property
    def verdict(self) -> str:
        """One plain sentence: is anything measurably faster at no more than `max_points` points less accuracy?"""
        good = [n for n in self.networks if n.points_lost(self.base) <= self.max_points]
        faster = [n for n in good if n.is_faster(self.base)]
        if faster:
            best = max(faster, key=lambda n: n.speedup(self.base)[0])
            ratio, interval = best.speedup(self.base)
            return (
                f"{best.name} runs {ratio:.2f}x as fast as the base network ({interval.low:.2f}–{interval.high:.2f}x)"
                f" with {_points(-best.points_lost(self.base))} of test accuracy."
            )
        if not self.networks:
            return "The search found no pruned network that the device could run."
        if not good:
            least = min(self.networks, key=lambda n: n.points_lost(self.base))
            return (
                f"No network of the front keeps its accuracy within {self.max_points:g} point of the base: the best,"
                f" {least.name}, loses {least.points_lost(self.base):.2f}."
                " Longer fine-tuning or a longer search may help."
            )
        best = min(good, key=lambda n: n.measured.latency_ms)
        return (
            f"No network within {self.max_points:g} point of the base is measurably faster: the fastest, {best.name},"
            f" takes {best.measured.latency_ms:.4f} ms against {self.base.measured.latency_ms:.4f} ms and their"
            " intervals touch. This network may already sit on the device's floor."
        )


def _points(difference: float) -> str:
    if difference == 0:
        return "the same number of right answers on the test set: +0.00 points"
    return f"{difference:+.2f} points"

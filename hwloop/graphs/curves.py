"""What the rounds of several seeds say together: accuracy against sparsity, how far it holds, the measured front."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np

from hwloop.graphs.runfolder import Round
from hwloop.measurement import Measurement


@dataclass(frozen=True)
class CurvePoint:
    """One round, over seeds.

    Attributes:
        round: 0 is the unpruned network.
        edge_sparsity: share of edges that is cut; the same for all seeds.
        weight_sparsity: share of weights that is cut.
        validation: mean accuracy.
        validation_sd: standard deviation over the seeds; None for one seed.
        test: mean accuracy.
        test_sd: likewise.
    """

    round: int
    edge_sparsity: float
    weight_sparsity: float
    validation: float
    validation_sd: float | None
    test: float
    test_sd: float | None


def curve(runs: Sequence[Sequence[Round]]) -> tuple[CurvePoint, ...]:
    """The rounds that all runs have finished, over the runs."""

    def spread(values: Sequence[float]) -> float | None:
        return statistics.stdev(values) if len(values) > 1 else None

    points = []
    for same in zip(*runs, strict=False):
        validation, test = [one.validation for one in same], [one.test for one in same]
        points.append(
            CurvePoint(
                round=same[0].round,
                edge_sparsity=same[0].edge_sparsity,
                weight_sparsity=same[0].weight_sparsity,
                validation=statistics.fmean(validation),
                validation_sd=spread(validation),
                test=statistics.fmean(test),
                test_sd=spread(test),
            )
        )
    return tuple(points)


def holds_to(points: Sequence[CurvePoint]) -> int | None:
    """The last round before the mean test accuracy first falls below that of round 0 by more than its deviation.

    Returns:
        The round; None for a single seed, which has no deviation.
    """
    base = points[0]
    if base.test_sd is None:
        return None
    held = 0
    for point in points:
        if point.test < base.test - base.test_sd:
            break
        held = point.round
    return held


def chosen_round(points: Sequence[CurvePoint]) -> int:
    """The sparsest round whose mean validation accuracy is no further below round 0 than its deviation.

    With one seed: whose validation accuracy is no lower. The test split has no say.
    """
    base = points[0]
    least = base.validation - (base.validation_sd or 0.0)
    return max(point.round for point in points if point.validation >= least)


def front_rounds(points: Sequence[CurvePoint], measured: Mapping[int, Measurement]) -> tuple[int, ...]:
    """The rounds that no other dominates in validation error, measured latency and measured peak memory."""
    usable = [point for point in points if point.round in measured and measured[point.round].usable]
    if not usable:
        return ()
    values = np.array(
        [(1 - one.validation, measured[one.round].latency_ms, measured[one.round].peak_bytes) for one in usable]
    )
    keep = moocore.is_nondominated(values, keep_weakly=True)
    return tuple(one.round for one, kept in zip(usable, keep, strict=True) if kept)

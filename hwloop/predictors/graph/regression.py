"""From blocks of columns to a positive quantity with an interval: a process on the logarithm of what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwloop.errors import UserError
from hwloop.predictors.conformal import Coverage, conformal_rank, coverage_of
from hwloop.predictors.graph.encoding import Blocks
from hwloop.predictors.graph.gaussian_process import GaussianProcess, Posterior, fit_process
from hwloop.predictors.graph.kernel import Kernel, chunks

FloatArray = NDArray[np.float64]

FEWEST = 4
"""Fewer networks teach nothing that a mean would not."""

TOLERANCE = 0.10
"""A prediction is good that is within this share of the measurement."""

CHUNK = 1000
"""Networks that are predicted together: bounds the memory."""


@dataclass(frozen=True)
class Estimate:
    """What n networks are predicted to cost, in the unit of the measurements that were learned from.

    Attributes:
        value: (n,).
        low: (n,) lower end of the interval; its coverage is the predictor's `coverage`.
        high: (n,) upper end.
    """

    value: FloatArray
    low: FloatArray
    high: FloatArray


@dataclass(frozen=True)
class Regression:
    """A fitted process and the scale of its targets.

    Intervals are jackknife+ (Barber et al. 2021) on the logarithm, with residuals in units of the deviation that the
    process expects, so that they widen for networks that are unlike the measured ones.

    Attributes:
        process: on (logarithm - centre) / scale.
        centre: median logarithm of the measurements.
        scale: their deviation.
        nominal: coverage of the intervals.
        residuals: (n,) measured - predicted logarithm of each network, predicted without it.
        scores: (n,) their sizes, in units of the deviation expected.
    """

    process: GaussianProcess
    centre: float
    scale: float
    nominal: float
    residuals: FloatArray
    scores: FloatArray

    @classmethod
    def fit(cls, blocks: Blocks, values: FloatArray, nominal: float, seed: int, favoured: int = 0) -> Regression:
        """Learn n positive values from their blocks; see `fit_process` for `seed` and `favoured`."""
        logarithms = np.log(values)
        centre, scale = float(np.median(logarithms)), max(float(logarithms.std()), 1e-6)
        process = fit_process(blocks, (logarithms - centre) / scale, seed, favoured)
        return cls._calibrated(process, centre, scale, nominal, seed)

    @classmethod
    def _calibrated(
        cls, process: GaussianProcess, centre: float, scale: float, nominal: float, seed: int
    ) -> Regression:
        residuals, deviations = process.held_out(seed)
        return cls(process, centre, scale, nominal, residuals * scale, np.abs(residuals) / deviations)

    @property
    def coverage(self) -> Coverage:
        """What the intervals promise."""
        return coverage_of(self.nominal, "jackknife+", len(self.process.targets))

    def robust_where_better(self, seed: int) -> Regression:
        """This, or the same with a noise that takes disturbed measurements, whichever predicts more networks well."""
        process = self.process.robust(seed)
        robust = self._calibrated(process, self.centre, self.scale, self.nominal, seed)
        return robust if robust.good_share() >= self.good_share() else self

    def good_share(self) -> tuple[float, float]:
        """Share of the networks that are within `TOLERANCE` when predicted without themselves; and within half."""
        errors = np.abs(np.exp(-self.residuals) - 1)
        return float((errors <= TOLERANCE).mean()), float((errors <= TOLERANCE / 2).mean())

    def logarithm(self, blocks: Blocks) -> FloatArray:
        """(m,) logarithms of the predictions."""
        return self.centre + self.scale * self.process.mean(blocks)

    def estimate(self, blocks: Blocks) -> Estimate:
        """Predictions of m networks with intervals."""
        parts = [np.zeros((3, 0))]
        for part in chunks(len(blocks[0]), CHUNK):
            posterior = self.process.posterior(tuple(block[part] for block in blocks))
            parts.append(np.stack([posterior.mean, *_interval(posterior, self.scores, self.nominal)]))
        value, low, high = np.exp(self.centre + self.scale * np.concatenate(parts, axis=1))
        return Estimate(value, low, high)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the blocks, as JSON-able data."""
        process = self.process
        return {
            "targets": process.targets.tolist(),
            "weights": process.weights.tolist(),
            "kernel": {name: values.tolist() for name, values in asdict(process.kernel).items()},
            "noise": process.noise,
            "prior": process.prior.tolist(),
            "log_evidence": process.log_evidence,
            "centre": self.centre,
            "scale": self.scale,
            "nominal": self.nominal,
            "residuals": self.residuals.tolist(),
            "scores": self.scores.tolist(),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], blocks: Blocks) -> Regression:
        """The inverse of `to_dict`, given the blocks of the n networks."""
        kernel = Kernel(**{name: np.array(values, dtype=np.float64) for name, values in content["kernel"].items()})
        names = ("targets", "weights", "prior", "residuals", "scores")
        targets, weights, prior, residuals, scores = (np.array(content[name], np.float64) for name in names)
        counts = {len(values) for values in (targets, weights, residuals, scores, *blocks)}
        if len(counts) > 1:
            raise ValueError("it has rows of another number of networks than values")
        noise, evidence = float(content["noise"]), float(content["log_evidence"])
        process = GaussianProcess(kernel, noise, blocks, targets, weights, prior, evidence)
        centre, scale, nominal = (float(content[name]) for name in ("centre", "scale", "nominal"))
        return cls(process, centre, scale, nominal, residuals, scores)


def checked_values(values: ArrayLike, count: int) -> FloatArray:
    """The (n,) measurements of n networks.

    Raises:
        UserError: they are not positive and finite, not as many as networks, or fewer than `FEWEST`.
    """
    measured = np.asarray(values, dtype=np.float64)
    if measured.shape != (count,) or not (np.isfinite(measured) & (measured > 0)).all():
        raise UserError(f"{count} networks need as many positive, finite values to fit a predictor on")
    if count < FEWEST:
        raise UserError(f"a predictor needs at least {FEWEST} measured networks, got {count}: measure more")
    return measured


def _interval(posterior: Posterior, scores: FloatArray, nominal: float) -> tuple[FloatArray, FloatArray]:
    """(m,) ends of the jackknife+ interval from (n,) scores; they hold the prediction too."""
    count = len(scores)
    rank = min(conformal_rank(count, nominal), count)
    reach = scores[:, None] * posterior.deviation_without
    lows = np.partition(posterior.mean_without - reach, count - rank, axis=0)[count - rank]
    highs = np.partition(posterior.mean_without + reach, rank - 1, axis=0)[rank - 1]
    return np.minimum(lows, posterior.mean), np.maximum(highs, posterior.mean)

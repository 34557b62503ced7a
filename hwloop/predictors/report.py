"""How far off a predictor is on networks that it has not seen."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwloop.errors import UserError
from hwloop.predictors.conformal import Coverage
from hwloop.predictors.network_predictor import NetworkPredictor

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Errors:
    """Absolute relative errors of one quantity over the held-out networks.

    Attributes:
        median: 0.01 is one per cent.
        p90: 90th percentile.
        within_5: share of networks within 5 %.
        within_10: share of networks within 10 %.
    """

    median: float
    p90: float
    within_5: float
    within_10: float

    @classmethod
    def of(cls, predicted: FloatArray, measured: FloatArray) -> Errors:
        """The errors of (n,) predictions against (n,) measurements."""
        errors = np.abs(predicted / measured - 1)
        return cls(
            median=float(np.median(errors)),
            p90=float(np.quantile(errors, 0.9)),
            within_5=float((errors <= 0.05).mean()),
            within_10=float((errors <= 0.10).mean()),
        )

    def __str__(self) -> str:
        return (
            f"median {self.median:.1%}, 90th percentile {self.p90:.1%},"
            f" within 5 %: {self.within_5:.0%}, within 10 %: {self.within_10:.0%}"
        )


@dataclass(frozen=True)
class PredictorReport:
    """A predictor against measured networks that it was not fitted on.

    Attributes:
        networks: how many held-out networks.
        latency: errors of the corrected prediction.
        sum_of_layers: errors of the bare sum, for comparison.
        noise_floor: median relative difference of two measurements of one network; nan when not known. No
            error below it means anything.
        covered: share of networks inside their interval.
        interval_width: median width of the interval, relative to the prediction.
        coverage: what the interval promises.
        memory: errors of peak memory; None when it was not measured or not fitted.
        interpolated_share: mean share of the predicted latency from layers whose widths were not measured.
        roofline: names of layers of whose geometry nothing was measured; the roofline stands in.
        missing: names of layers of which nothing is known.
    """

    networks: int
    latency: Errors
    sum_of_layers: Errors
    noise_floor: float
    covered: float
    interval_width: float
    coverage: Coverage
    memory: Errors | None
    interpolated_share: float
    roofline: tuple[str, ...]
    missing: tuple[str, ...]

    def lines(self) -> tuple[str, ...]:
        """The report for people, one fact a line."""
        floor = "not known" if math.isnan(self.noise_floor) else f"{self.noise_floor:.1%}"
        lines = [
            f"latency of {self.networks} held-out networks: {self.latency}",
            f"bare sum of layers: {self.sum_of_layers}",
            f"noise floor (two measurements of one network): {floor}",
            f"intervals: {self.covered:.0%} covered, median width {self.interval_width:.1%}; {self.coverage}",
            f"peak memory: {self.memory or 'not measured'}",
            f"interpolated share of the latency: {self.interpolated_share:.0%}",
        ]
        if self.roofline:
            lines.append(f"never measured, by the device's roofline: {', '.join(self.roofline)}")
        if self.missing:
            lines.append(f"never measured, counted as 0: {', '.join(self.missing)}")
        return tuple(lines)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data; a noise floor that is not known is null."""
        content = asdict(self) | {
            "roofline": list(self.roofline),
            "missing": list(self.missing),
            "statement": str(self.coverage),
        }
        return content | {"noise_floor": None if math.isnan(self.noise_floor) else self.noise_floor}


def evaluate(
    predictor: NetworkPredictor,
    widths: ArrayLike,
    latencies_ms: ArrayLike,
    peak_bytes: ArrayLike | None = None,
    *,
    blocks: ArrayLike | None = None,
    noise_floor: float = float("nan"),
) -> PredictorReport:
    """Compare a predictor with networks that it was not fitted on.

    Args:
        predictor: the predictor.
        widths: (n, G) widths of the held-out networks, n >= 1.
        latencies_ms: (n,) their measured latencies.
        peak_bytes: (n,) their measured peaks.
        blocks: (n, B) flags of the blocks that remain in each; all by default.
        noise_floor: median relative difference of two measurements of the same network.

    Raises:
        UserError: there is no network, or a latency is not positive.
    """
    measured = np.asarray(latencies_ms, dtype=np.float64)
    if not len(measured) or not (measured > 0).all():
        raise UserError("a predictor is evaluated on at least one network, with positive latencies")
    prediction = predictor.predict(widths, blocks)
    memory = None
    if peak_bytes is not None and predictor.memory.networks:
        memory = Errors.of(prediction.peak_bytes, np.asarray(peak_bytes, dtype=np.float64))
    inside = (prediction.low_ms <= measured) & (measured <= prediction.high_ms)
    return PredictorReport(
        networks=len(measured),
        latency=Errors.of(prediction.latency_ms, measured),
        sum_of_layers=Errors.of(prediction.sum_of_layers_ms, measured),
        noise_floor=noise_floor,
        covered=float(inside.mean()),
        interval_width=float(np.median((prediction.high_ms - prediction.low_ms) / prediction.latency_ms)),
        coverage=predictor.coverage,
        memory=memory,
        interpolated_share=float(prediction.interpolated_share.mean()),
        roofline=prediction.roofline,
        missing=prediction.missing,
    )

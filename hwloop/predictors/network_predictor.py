"""Latency with an interval, and peak memory, of pruned candidates of one network on one device."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwloop.errors import DataError, UserError
from hwloop.files import write_atomic
from hwloop.layers import ScalableNetwork
from hwloop.predictors.conformal import SPLIT_FROM, Coverage, coverage_of, jackknife_plus, split_half_width
from hwloop.predictors.correction import Correction, fit_correction, fit_without_each
from hwloop.predictors.layer_sum import LayerSum
from hwloop.predictors.memory import MemoryModel, fit_memory
from hwloop.tables import LatencyTable, LayerCosts, Point

FloatArray = NDArray[np.float64]

FORMAT = 1
"""Version of the JSON file."""

NOMINAL = 0.9
"""Coverage of the intervals unless another is asked for."""


@dataclass(frozen=True)
class Prediction:
    """What n candidates are predicted to cost.

    Attributes:
        latency_ms: (n,).
        low_ms: (n,) lower end of the interval; its coverage is `NetworkPredictor.coverage`.
        high_ms: (n,) upper end.
        peak_bytes: (n,) peak resident set; nan when no network's memory was measured.
        sum_of_layers_ms: (n,) the sum before the correction.
        interpolated_share: (n,) share of the sum from layers whose widths were not measured.
        missing: names of layers of which nothing was measured; they count 0 in the sum.
    """

    latency_ms: FloatArray
    low_ms: FloatArray
    high_ms: FloatArray
    peak_bytes: FloatArray
    sum_of_layers_ms: FloatArray
    interpolated_share: FloatArray
    missing: tuple[str, ...]


class NetworkPredictor:
    """Sums looked-up layers and corrects the sum with what whole networks taught.

    A predictor is a value: `fit` returns a new one. Before `fit` it predicts the bare sum, its interval is
    the sum itself and `coverage` says that it is not calibrated.

    Args:
        scalable: the network with its channel groups.
        table: measured layers.
        grain: channels per block of the device; the table's own by default.
    """

    def __init__(self, scalable: ScalableNetwork, table: LatencyTable, grain: int | None = None) -> None:
        self._set(scalable, table.costs(scalable.network.layers, grain))

    def _set(self, scalable: ScalableNetwork, costs: LayerCosts) -> None:
        self.scalable = scalable
        self.costs = costs
        self.correction = Correction()
        self.memory = MemoryModel()
        self.coverage = Coverage(NOMINAL)
        self._sum = LayerSum(scalable, costs)
        self._half_width = 0.0
        self._left_out: tuple[Correction, ...] = ()
        self._residuals: FloatArray = np.zeros(0)

    def _like(self) -> NetworkPredictor:
        made = NetworkPredictor.__new__(NetworkPredictor)
        made._set(self.scalable, self.costs)
        return made

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of layers of which nothing was measured."""
        return self._sum.missing

    def fit(
        self,
        widths: ArrayLike,
        latencies_ms: ArrayLike,
        peak_bytes: ArrayLike | None = None,
        *,
        coverage: float = NOMINAL,
        seed: int = 0,
    ) -> NetworkPredictor:
        """Learn the correction, the interval and the memory model from whole networks.

        Args:
            widths: (n, G) group widths of the measured networks.
            latencies_ms: (n,) their latencies.
            peak_bytes: (n,) their peak resident sets; networks without one (nan or 0) are left out.
            coverage: of the interval.
            seed: of the split into a fitting and a calibrating half (from `SPLIT_FROM` networks on).

        Returns:
            A fitted predictor over the same layers.

        Raises:
            UserError: a latency is not positive, shapes do not fit, or no layer of the network was measured.
        """
        points = np.asarray(widths, dtype=np.int64).reshape(-1, len(self.scalable.base_widths))
        latencies = np.asarray(latencies_ms, dtype=np.float64)
        if latencies.shape != (len(points),) or not (np.isfinite(latencies) & (latencies > 0)).all():
            raise UserError(f"{len(points)} networks need as many positive, finite latencies to fit a predictor on")
        fitted = self._like()
        sums = self._sum.at(points)
        if len(points) and not (sums.total_ms > 0).all():
            raise UserError("no layer of the network was measured: build the latency table first")
        fitted._fit_latency(sums.total_ms, sums.bytes_moved, latencies, coverage, seed)
        if peak_bytes is not None:
            peaks = np.asarray(peak_bytes, dtype=np.float64)
            known = np.isfinite(peaks) & (peaks > 0)
            activations = self.scalable.peak_activation_bytes(points[known]).astype(np.float64)
            fitted.memory = fit_memory(sums.weight_bytes[known], activations, peaks[known])
        return fitted

    def _fit_latency(
        self, sums: FloatArray, moved: FloatArray, latencies: FloatArray, nominal: float, seed: int
    ) -> None:
        count = len(latencies)
        if count >= SPLIT_FROM:
            order = np.random.default_rng(seed).permutation(count)
            fitting, held = order[: count // 2], order[count // 2 :]
            self.correction = fit_correction(sums[fitting], moved[fitting], latencies[fitting])
            predicted = self.correction.apply(sums[held], moved[held])
            self._half_width = split_half_width(latencies[held] / predicted - 1, nominal)
            self.coverage = coverage_of(nominal, "split", len(held))
            return
        self.correction = fit_correction(sums, moved, latencies)
        if count < 2:
            self.coverage = coverage_of(nominal, "none", 0)
            return
        # Jackknife+ needs the whole procedure repeated without each network, the choice of the form included.
        self._left_out = tuple(fit_without_each(sums, moved, latencies))
        predicted = np.stack([model.apply(sums, moved)[k] for k, model in enumerate(self._left_out)])
        self._residuals = np.abs(latencies / predicted - 1)
        self.coverage = coverage_of(nominal, "jackknife+", count)

    def predict(self, widths: ArrayLike, *, strict: bool = False) -> Prediction:
        """Predict n candidates.

        Args:
            widths: (n, G) group widths.
            strict: refuse when a layer was never measured, instead of naming it in `Prediction.missing`.

        Raises:
            UserError: `strict`, and something is missing.
        """
        if strict and self.missing:
            raise UserError(f"no measurement for the layers {', '.join(self.missing)}: measure them first")
        sums = self._sum.at(widths)
        latency = self.correction.apply(sums.total_ms, sums.bytes_moved)
        low, high = self._interval(latency, sums.total_ms, sums.bytes_moved)
        # What layers beyond the measured widths may add is not in the residuals of the measured networks.
        low = np.maximum(low - self.correction.scale * sums.extrapolated_low_ms, 0)
        high = high + self.correction.scale * sums.extrapolated_high_ms
        peak = self.memory.apply(
            sums.weight_bytes,
            self.scalable.peak_activation_bytes(widths).astype(np.float64),
        )
        return Prediction(latency, low, high, peak, sums.total_ms, sums.interpolated_share, sums.missing)

    def _interval(self, latency: FloatArray, sums: FloatArray, moved: FloatArray) -> tuple[FloatArray, FloatArray]:
        if self.coverage.method != "jackknife+":
            return latency * (1 - self._half_width), latency * (1 + self._half_width)
        predictions = np.stack([model.apply(sums, moved) for model in self._left_out])
        low, high = jackknife_plus(predictions, self._residuals, self.coverage.nominal)
        # The interval is built from the models without one network each; it holds the full model's prediction
        # too.
        return np.minimum(low, latency), np.maximum(high, latency)

    def to_dict(self) -> dict[str, Any]:
        """Everything that predictions depend on but the network, as JSON-able data."""
        return {
            "format": FORMAT,
            "network": _fingerprint(self.scalable),
            "grain": self.costs.grain,
            "points": {name: [asdict(point) for point in found] for name, found in self.costs.points.items()},
            "correction": _plain(self.correction),
            "memory": self.memory.to_dict(),
            "coverage": asdict(self.coverage),
            "half_width": self._half_width,
            "left_out": [_plain(model) for model in self._left_out],
            "residuals": self._residuals.tolist(),
        }

    def save(self, path: Path) -> None:
        """Write the predictor as JSON, whole or not at all.

        Raises:
            DataError: the file cannot be written.
        """
        try:
            write_atomic(path, json.dumps(self.to_dict(), sort_keys=True, indent=1, allow_nan=False))
        except OSError as error:
            raise DataError(f"predictor {path} cannot be written: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: Path, scalable: ScalableNetwork) -> NetworkPredictor:
        """Read a predictor; its predictions equal those of the one that was saved, bit for bit.

        Raises:
            DataError: no such file, not a predictor, of a newer format, or of another network.
        """
        try:
            content = json.loads(path.read_text())
            version = int(content["format"])
        except FileNotFoundError:
            raise DataError(f"there is no predictor at {path}") from None
        except OSError as error:
            raise DataError(f"predictor {path} cannot be read: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is not a predictor, or is damaged: {error}") from error
        if version > FORMAT:
            raise DataError(f"predictor {path} has format {version}, this hwloop reads up to {FORMAT}; use a newer one")
        if content["network"] != _fingerprint(scalable):
            raise DataError(f"predictor {path} is of another network, or of other channel groups; fit it again")
        try:
            return cls._from_dict(content, scalable)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"predictor {path} is damaged: {error}") from error

    @classmethod
    def _from_dict(cls, content: Mapping[str, Any], scalable: ScalableNetwork) -> NetworkPredictor:
        points = {name: [Point(**point) for point in found] for name, found in content["points"].items()}
        made = cls.__new__(cls)
        made._set(scalable, LayerCosts(points, content["grain"]))
        made.correction = _correction(content["correction"])
        made.memory = MemoryModel.from_dict(content["memory"])
        made.coverage = Coverage(**content["coverage"])
        made._half_width = float(content["half_width"])
        made._left_out = tuple(_correction(model) for model in content["left_out"])
        made._residuals = np.array(content["residuals"], dtype=np.float64)
        return made


def _plain(correction: Correction) -> dict[str, Any]:
    """JSON has no nan: an error that could not be estimated is null."""
    content = correction.to_dict()
    error = content["leave_one_out_error"]
    return content | {"leave_one_out_error": None if np.isnan(error) else error}


def _correction(content: Mapping[str, Any]) -> Correction:
    error = content["leave_one_out_error"]
    return Correction(**{**content, "leave_one_out_error": float("nan") if error is None else error})


def _fingerprint(scalable: ScalableNetwork) -> str:
    network = scalable.network
    content = [
        [[node.name, node.layer.key, list(node.inputs)] for node in network.nodes],
        [sorted(group) for group in scalable.groups],
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()

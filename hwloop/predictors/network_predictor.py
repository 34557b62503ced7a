"""Latency with an interval, peak memory and energy of pruned candidates of one network on one device."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwloop.errors import DataError, UserError
from hwloop.files import write_atomic
from hwloop.layers import Layer, ScalableNetwork
from hwloop.predictors.conformal import Coverage, coverage_of, folds, is_enough, jackknife_plus
from hwloop.predictors.correction import Corrected, Correction, NetworkTerms, fit_correction
from hwloop.predictors.energy import EnergyModel, fit_energy
from hwloop.predictors.layer_model import EXTRAPOLATED, ROOFLINE, LayerModel
from hwloop.predictors.layer_sum import LayerSum, LayerSums
from hwloop.predictors.memory import MemoryModel, fit_memory
from hwloop.predictors.pace import pace_of
from hwloop.predictors.roofline import fit_roofline
from hwloop.tables import LatencyTable, LayerCosts, Point

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

FORMAT = 4
"""Version of the JSON file."""

NOMINAL = 0.9
"""Coverage of the intervals unless another is asked for."""

TWO_SIDED = 1.645
"""Standard deviations to each side that hold nine tenths of a normal distribution."""


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
        roofline: names of layers of whose geometry nothing was measured; an analytic roofline stands in.
        missing: names of layers of which nothing is known at all; they count 0 in the sum.
        memory_margin: relative; the upper end of the peak's interval is so far above it.
        energy_mj: (n,) of one run; None when no network's energy was measured.
        energy_margin: relative; the upper end of the energy's interval is so far above it.
    """

    latency_ms: FloatArray
    low_ms: FloatArray
    high_ms: FloatArray
    peak_bytes: FloatArray
    sum_of_layers_ms: FloatArray
    interpolated_share: FloatArray
    roofline: tuple[str, ...]
    missing: tuple[str, ...]
    memory_margin: float = 0.0
    energy_mj: FloatArray | None = None
    energy_margin: float = 0.0

    @property
    def peak_high_bytes(self) -> FloatArray:
        """(n,) upper end of the peak's interval."""
        return self.peak_bytes * (1 + self.memory_margin)

    @property
    def energy_high_mj(self) -> FloatArray | None:
        """(n,) upper end of the energy's interval."""
        return None if self.energy_mj is None else self.energy_mj * (1 + self.energy_margin)


class NetworkPredictor:
    """Sums the layers by their model and corrects the sum with what whole networks taught.

    A predictor is a value: `fit` returns a new one. Before `fit` it predicts the bare sum, its interval is
    the sum itself and `coverage` says that it is not calibrated.

    Args:
        scalable: the network with its channel groups.
        table: measured layers; those of other networks help where a geometry of this one was not measured.
        grain: channels per block of the device; the table's own by default.
    """

    def __init__(self, scalable: ScalableNetwork, table: LatencyTable, grain: int | None = None) -> None:
        costs = table.costs(scalable.layers, grain)
        usable = [row for row in table.rows if row.usable]
        roofline = fit_roofline(
            [Layer.parse(row.key) for row in usable], [row.latency_ms for row in usable], costs.grain
        )
        self._set(scalable, costs, LayerModel(scalable.layers, costs, roofline))

    def _set(self, scalable: ScalableNetwork, costs: LayerCosts, layers: LayerModel) -> None:
        self.scalable = scalable
        self.costs = costs
        self.layers = layers
        self.correction = Correction()
        self.memory = MemoryModel()
        self.energy = EnergyModel()
        self.coverage = Coverage(NOMINAL)
        self._sum = LayerSum(scalable, layers)
        self._residuals: FloatArray = np.zeros(0)

    def _like(self) -> NetworkPredictor:
        made = NetworkPredictor.__new__(NetworkPredictor)
        made._set(self.scalable, self.costs, self.layers)
        return made

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of layers of which nothing is known."""
        return self._sum.missing

    @property
    def roofline(self) -> tuple[str, ...]:
        """Names of layers for which the roofline stands in."""
        return self._sum.roofline

    def sums(self, widths: ArrayLike, blocks: ArrayLike | None = None) -> LayerSums:
        """The sums of the layers of n candidates, before any correction; see `predict`."""
        return self._sum.at(widths, blocks)

    def layer_values(
        self, widths: ArrayLike, blocks: ArrayLike | None = None
    ) -> tuple[FloatArray, FloatArray, IntArray]:
        """Latency in ms, spread and kind of each of `scalable.nodes`, (n, L) each; see `LayerSum.layer_values`."""
        return self._sum.layer_values(widths, blocks)

    def fit(
        self,
        widths: ArrayLike,
        latencies_ms: ArrayLike,
        peak_bytes: ArrayLike | None = None,
        *,
        energy_mj: Sequence[float | None] | None = None,
        blocks: ArrayLike | None = None,
        coverage: float = NOMINAL,
        calibrating: Sequence[bool] | None = None,
        later: Sequence[bool] | None = None,
    ) -> NetworkPredictor:
        """Learn the correction, the interval, the memory and the energy model from whole networks.

        Args:
            widths: (n, G) group widths of the measured networks.
            latencies_ms: (n,) their latencies.
            peak_bytes: (n,) their peak resident sets; networks without one (nan or 0) are left out.
            energy_mj: (n,) of one run; networks without one (None) are left out.
            blocks: (n, B) flags of the blocks that remain in each; all by default.
            coverage: of the interval.
            calibrating: (n,) which networks were drawn like those that will be predicted; only these say how wide
                the interval is (all by default). Networks that were measured because they looked hard teach the
                correction, but their residuals are no sample of the others'.
            later: (n,) which networks were measured in the session that predictions are for (none by default: all are
                of one session). The others' latencies are brought to its pace first (see `pace.py`), and as soon as
                there are enough later ones for the coverage, only they say how wide the interval is: no network of
                another session tells by how much this one's pace varies.

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
        flags = None if blocks is None else np.asarray(blocks, dtype=bool).reshape(len(points), -1)
        sums = self._sum.at(points, flags)
        if len(points) and not (sums.total_ms > 0).all():
            raise UserError("no layer of the network was measured: build the latency table first")
        if later is not None and any(later):
            latencies = _at_one_pace(sums.terms, latencies, np.asarray(later, dtype=bool))
        fitted.correction = fit_correction(sums.terms, latencies)
        if len(points) < 2:
            fitted.coverage = coverage_of(coverage, "none", 0)
        else:
            drawn = np.ones(len(points), bool) if calibrating is None else np.asarray(calibrating, dtype=bool)
            if later is not None and is_enough(int((drawn & later).sum()), coverage):
                drawn = drawn & later
            fitted._residuals = np.where(drawn, _residuals(sums.terms, latencies), np.nan)
            fitted.coverage = coverage_of(coverage, "jackknife+", int(drawn.sum()))
        if peak_bytes is not None:
            peaks = np.asarray(peak_bytes, dtype=np.float64)
            known = np.isfinite(peaks) & (peaks > 0)
            shown = None if flags is None else flags[known]
            activations = self.scalable.peak_activation_bytes(points[known], shown).astype(np.float64)
            fitted.memory = fit_memory(sums.weight_bytes[known], activations, peaks[known])
        if energy_mj is not None:
            energies = np.asarray(energy_mj, dtype=np.float64)
            known = np.isfinite(energies) & (energies > 0)
            macs = self.scalable.macs(points, flags).astype(np.float64)
            fitted.energy = fit_energy(latencies[known], macs[known], sums.moved_bytes[known], energies[known])
        return fitted

    def predict(self, widths: ArrayLike, blocks: ArrayLike | None = None, *, strict: bool = False) -> Prediction:
        """Predict n candidates.

        Args:
            widths: (n, G) group widths.
            blocks: (n, B) flags of the blocks that remain; all by default.
            strict: refuse when a layer was never measured, instead of naming it in `Prediction.roofline` or
                `Prediction.missing`.

        Raises:
            UserError: `strict`, and something was never measured.
        """
        never = (*self.missing, *self.roofline)
        if strict and never:
            raise UserError(f"no measurement for the layers {', '.join(never)}: measure them first")
        sums = self._sum.at(widths, blocks)
        corrected = self.correction.apply(sums.terms)
        latency = corrected.latency_ms
        low, high = self._interval(corrected)
        # What layers beyond the measured ones may add is not in the residuals of the measured networks.
        beyond = np.divide(
            sums.kind_ms[:, [EXTRAPOLATED, ROOFLINE]].sum(1), sums.total_ms, out=np.zeros(len(latency)),
            where=sums.total_ms > 0,
        )  # fmt: skip
        extra = TWO_SIDED * sums.spread_ms * beyond
        peak = self.memory.apply(
            sums.weight_bytes,
            self.scalable.peak_activation_bytes(widths, blocks).astype(np.float64),
        )
        return Prediction(
            latency,
            np.maximum(low - extra, 0),
            high + extra,
            peak,
            sums.total_ms,
            sums.unmeasured_share,
            self.roofline,
            self.missing,
            self.memory.margin,
            self._energy_mj(latency, widths, blocks, sums),
            self.energy.margin,
        )

    def _energy_mj(
        self, latency_ms: FloatArray, widths: ArrayLike, blocks: ArrayLike | None, sums: LayerSums
    ) -> FloatArray | None:
        if not self.energy.networks:
            return None
        return self.energy.apply(latency_ms, self.scalable.macs(widths, blocks).astype(np.float64), sums.moved_bytes)

    def _interval(self, corrected: Corrected) -> tuple[FloatArray, FloatArray]:
        latency = corrected.latency_ms
        if self.coverage.method == "none" or self.coverage.calibration == 0:
            return latency, latency
        drawn = np.isfinite(self._residuals)
        low, high = jackknife_plus(
            corrected.left_out_ms[drawn], self._residuals[drawn], corrected.spread, self.coverage.nominal
        )
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
            "layers": self.layers.to_dict(),
            "correction": self.correction.to_dict(),
            "memory": self.memory.to_dict(),
            "energy": self.energy.to_dict(),
            "coverage": asdict(self.coverage),
            "residuals": [None if np.isnan(value) else float(value) for value in self._residuals],
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
        if version < FORMAT:
            raise DataError(f"predictor {path} has the old format {version}, this hwloop reads {FORMAT}; fit it again")
        if content["network"] != _fingerprint(scalable):
            raise DataError(f"predictor {path} is of another network, or of other channel groups; fit it again")
        try:
            return cls._from_dict(content, scalable)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"predictor {path} is damaged: {error}") from error

    @classmethod
    def _from_dict(cls, content: Mapping[str, Any], scalable: ScalableNetwork) -> NetworkPredictor:
        points = {name: [Point(**point) for point in found] for name, found in content["points"].items()}
        costs = LayerCosts(points, content["grain"])
        made = cls.__new__(cls)
        made._set(scalable, costs, LayerModel.from_dict(content["layers"], scalable.layers, costs))
        made.correction = Correction.from_dict(content["correction"])
        made.memory = MemoryModel.from_dict(content["memory"])
        made.energy = EnergyModel(**content["energy"])
        made.coverage = Coverage(**content["coverage"])
        made._residuals = np.array([np.nan if value is None else value for value in content["residuals"]])
        return made


def _at_one_pace(terms: NetworkTerms, latencies: FloatArray, later: NDArray[np.bool_]) -> FloatArray:
    """(n,) latencies, the earlier ones as they would be now."""
    told = fit_correction(terms[~later], latencies[~later]).apply(terms[later])
    return np.where(later, latencies, latencies * pace_of(latencies[later] / told.latency_ms, told.spread))


def _residuals(terms: NetworkTerms, latencies: FloatArray) -> FloatArray:
    """(k,) relative residual of each network under a correction fitted without it, in units of its expected spread.

    Everything is fitted again, the strengths of the terms included: what the full correction learned from
    a network must not help to judge it.
    """
    found = np.zeros(len(latencies))
    for left in folds(len(latencies)):
        kept = np.setdiff1d(np.arange(len(latencies)), left)
        corrected = fit_correction(terms[kept], latencies[kept]).apply(terms[left])
        found[left] = np.abs(latencies[left] / corrected.latency_ms - 1) / corrected.spread
    return found


def _fingerprint(scalable: ScalableNetwork) -> str:
    content = [
        [[node.name, node.layer.key, list(node.inputs)] for node in scalable.nodes],
        [sorted(group) for group in scalable.groups],
        [[block.name, sorted(block.vanishing), block.output, block.replacement] for block in scalable.blocks],
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()

"""Latency of layers over their widths, with the uncertainty of each number and where it comes from.

For each geometry: a non-negative combination of physical terms (`layer_features.cost_terms`), times a Gaussian process
on the logarithm of what that leaves, over real and padded widths. The shape makes few points go far, the process bends
it where caches and tiles do, and says how sure it is; its length scales are shared by all geometries of one family,
since no geometry alone has enough points for them (Rasmussen and Williams 2006, sections 2.2 and 5.4.1). A geometry
without any measurement gets the device's roofline, marked as such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize, nnls

from hwloop.layers import Layer
from hwloop.layers.ops import OPS
from hwloop.predictors.layer_features import IntArray, cost_terms, family, is_tied, width_axes
from hwloop.predictors.roofline import Roofline
from hwloop.tables import LayerCosts, Point, geometry

FloatArray = NDArray[np.float64]

KINDS = ("exact", "interpolated", "extrapolated", "roofline", "missing")
"""Where a number comes from: these widths were measured, widths around them, widths on one side only, other layers
altogether; or there is none."""

EXACT, INTERPOLATED, EXTRAPOLATED, ROOFLINE, MISSING = range(len(KINDS))

PRIOR_LOGS = np.log([0.08, 1.0, 1.0, 0.01])
"""Amplitude of the process, length scales of real and of padded widths (in logarithms of widths), noise."""

PRIOR_SPREADS = np.array([0.7, 0.8, 0.8, 0.7])
"""How far the logarithms of these may well be from `PRIOR_LOGS`."""

DEGRADED = 4.0
"""A degraded measurement has so many times the noise of an ok one."""

GRAINS = (1, 4, 8, 16, 32)
"""Blocks that are tried for each family besides the table's own grain: a table is often sampled in finer or coarser
steps than those in which the kernels work."""

FINER = 1.0
"""A coarser grain must explain the layers better than a finer one by so many units of log-probability."""

RIDGE = 1e-3
"""Keeps the non-negative regression well-conditioned with few points; far below any real effect."""


@dataclass(frozen=True)
class Kernel:
    """Covariance of the logarithms of latencies of one family.

    Attributes:
        amplitude: standard deviation far from all points.
        real_scale: length scale of the logarithm of the widths.
        padded_scale: length scale of the logarithm of the padded widths.
        noise: standard deviation of a measurement.
        grain: channels per block of the family's kernels.
    """

    amplitude: float
    real_scale: float
    padded_scale: float
    noise: float
    grain: int

    def of(self, first: FloatArray, second: FloatArray) -> FloatArray:
        """(n, m) covariances of (n, d) and (m, d) axes (see `layer_features.width_axes`), without noise."""
        half = first.shape[1] // 2
        scales = np.repeat([self.real_scale, self.padded_scale], half)
        a, b = first / scales, second / scales
        squared = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T
        return np.asarray(self.amplitude**2 * np.exp(-0.5 * np.maximum(squared, 0)), dtype=np.float64)


@dataclass(frozen=True)
class LayerValues:
    """Latencies of n layers of one geometry.

    Attributes:
        latency_ms: (n,); 0 where nothing is known.
        spread: (n,) standard deviation of its logarithm.
        kind: (n,) codes, see `KINDS`.
    """

    latency_ms: FloatArray
    spread: FloatArray
    kind: NDArray[np.uint8]


class GeometryModel:
    """The measured layers of one geometry.

    Args:
        layer: any layer of the geometry.
        points: measured widths, at least one.
        kernel: of the layer's family.
    """

    def __init__(self, layer: Layer, points: Sequence[Point], kernel: Kernel) -> None:
        self.layer, self.grain, self.kernel = layer, kernel.grain, kernel
        grain = kernel.grain
        self.inputs = np.array([point.inputs for point in points], dtype=np.int64)
        self.outputs = np.array([point.outputs for point in points], dtype=np.int64)
        latency = np.array([point.latency_ms for point in points])
        factor = np.array([DEGRADED if point.degraded else 1.0 for point in points])
        self._terms = _fit_terms(cost_terms(layer, self.inputs, self.outputs, grain), latency)
        self._axes = width_axes(layer, self.inputs, self.outputs, grain)
        self.left = np.log(latency / self._shape(self.inputs, self.outputs))
        self.noise = kernel.noise * factor
        covariance = kernel.of(self._axes, self._axes) + np.diag(self.noise**2)
        self._chol = cholesky(covariance, lower=True)
        self._weights = cho_solve((self._chol, True), self.left)

    def _shape(self, inputs: IntArray, outputs: IntArray) -> FloatArray:
        return np.asarray(cost_terms(self.layer, inputs, outputs, self.grain) @ self._terms, dtype=np.float64)

    def at(self, inputs: IntArray, outputs: IntArray) -> LayerValues:
        """The values at n pairs of widths."""
        axes = width_axes(self.layer, inputs, outputs, self.grain)
        cross = self.kernel.of(axes, self._axes)
        latency = self._shape(inputs, outputs) * np.exp(cross @ self._weights)
        solved = solve_triangular(self._chol, cross.T, lower=True)
        variance = np.maximum(self.kernel.amplitude**2 - (solved**2).sum(0), 0)
        kind = np.full(len(inputs), INTERPOLATED, dtype=np.uint8)
        ends = [(inputs, self.inputs)] if is_tied(self.layer) else [(inputs, self.inputs), (outputs, self.outputs)]
        for asked, known in ends:
            kind[(asked < known.min()) | (asked > known.max())] = EXTRAPOLATED
        measured = (inputs[:, None] == self.inputs) & (outputs[:, None] == self.outputs)
        kind[measured.any(1)] = EXACT
        return LayerValues(latency, np.sqrt(variance), kind)

    def covariance(self, first: tuple[IntArray, IntArray], second: tuple[IntArray, IntArray]) -> FloatArray:
        """(n, m) posterior covariance of the logarithms at (n,) and (m,) pairs of widths."""
        a = width_axes(self.layer, *first, self.grain)
        b = width_axes(self.layer, *second, self.grain)
        left = solve_triangular(self._chol, self.kernel.of(a, self._axes).T, lower=True)
        right = solve_triangular(self._chol, self.kernel.of(b, self._axes).T, lower=True)
        return np.asarray(self.kernel.of(a, b) - left.T @ right, dtype=np.float64)


class LayerModel:
    """All layers of a network, by geometry.

    Args:
        layers: of the network; one of each geometry is enough.
        costs: what was measured.
        roofline: for geometries of which nothing was measured.
        kernels: by family; learned from `costs` when not given.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        costs: LayerCosts,
        roofline: Roofline,
        kernels: Mapping[str, Kernel] | None = None,
    ) -> None:
        self.roofline = roofline
        members: dict[str, Layer] = {}
        for layer in layers:
            members.setdefault(geometry(layer), layer)
        measured = {name: layer for name, layer in members.items() if name in costs.points and not OPS[layer.op].view}
        self.kernels = dict(kernels) if kernels is not None else _learn_kernels(measured, costs)
        self.geometries = {
            name: GeometryModel(layer, costs.points[name], self.kernels[family(layer)])
            for name, layer in measured.items()
        }

    @property
    def grain(self) -> int:
        """Channels per block of the widest kernels: where tensors have to be reordered at the borders."""
        return max((kernel.grain for name, kernel in self.kernels.items() if name != "other"), default=1)

    def kind_of(self, layer: Layer) -> int:
        """The code of what is known of a layer's geometry: `INTERPOLATED`, `ROOFLINE` or `MISSING`."""
        if geometry(layer) in self.geometries:
            return INTERPOLATED
        one = np.ones(1, dtype=np.int64)
        known = OPS[layer.op].view or self.roofline.at(layer, one, one) is not None
        return ROOFLINE if known else MISSING

    def at(self, layer: Layer, inputs: IntArray, outputs: IntArray) -> LayerValues:
        """The values at n pairs of widths of a layer's geometry."""
        nothing = np.zeros(len(inputs))
        if OPS[layer.op].view:  # nobody measures a view: it moves nothing
            return LayerValues(nothing, nothing, np.full(len(inputs), EXACT, dtype=np.uint8))
        model = self.geometries.get(geometry(layer))
        if model is not None:
            return model.at(inputs, outputs)
        roof = self.roofline.at(layer, inputs, outputs)
        if roof is None:
            return LayerValues(nothing, nothing, np.full(len(inputs), MISSING, dtype=np.uint8))
        return LayerValues(roof[0], np.full(len(inputs), roof[1]), np.full(len(inputs), ROOFLINE, dtype=np.uint8))

    def to_dict(self) -> dict[str, Any]:
        """What was learned beside the points, as JSON-able data."""
        return {
            "kernels": {name: list(vars(kernel).values()) for name, kernel in self.kernels.items()},
            "roofline": self.roofline.to_dict(),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], layers: Sequence[Layer], costs: LayerCosts) -> LayerModel:
        """The inverse of `to_dict`, given the layers and points."""
        kernels = {name: Kernel(*values) for name, values in content["kernels"].items()}
        return cls(layers, costs, Roofline.from_dict(content["roofline"]), kernels)


def _fit_terms(design: FloatArray, latency: FloatArray) -> FloatArray:
    """Non-negative coefficients that minimise relative residuals."""
    scale = design.max(0)
    relative = design / scale / latency[:, None]
    penalty = RIDGE * np.eye(design.shape[1]) / np.median(latency)
    solution = nnls(np.vstack([relative, penalty]), np.concatenate([np.ones(len(latency)), np.zeros(len(penalty))]))[0]
    if not solution.any():
        solution[0] = float(np.exp(np.mean(np.log(latency))))
    return np.asarray(solution / scale, dtype=np.float64)


def _learn_kernels(measured: Mapping[str, Layer], costs: LayerCosts) -> dict[str, Kernel]:
    """The most probable kernel of each family, over all its geometries together."""
    members: dict[str, list[str]] = {}
    for name, layer in measured.items():
        members.setdefault(family(layer), []).append(name)
    found: dict[str, Kernel] = {}
    for kind, names in members.items():
        best: tuple[float, Kernel] | None = None
        for grain in sorted({*GRAINS, costs.grain}):
            prior = _kernel(PRIOR_LOGS, grain)
            models = [GeometryModel(measured[name], costs.points[name], prior) for name in names]
            loss, kernel = _most_probable(models)
            # Among grains that explain the layers equally well, the finest: it promises nothing for free.
            if best is None or loss < best[0] - FINER:
                best = loss, kernel
        assert best is not None
        found[kind] = best[1]
    return found


def _most_probable(models: Sequence[GeometryModel]) -> tuple[float, Kernel]:
    """The kernel of one family and grain, and minus the logarithm of its probability."""
    data = []
    for model in models:
        axes = width_axes(model.layer, model.inputs, model.outputs, model.grain)
        half = axes.shape[1] // 2
        real, blocks = axes[:, :half], axes[:, half:]
        apart = [((axis[:, None, :] - axis[None, :, :]) ** 2).sum(2) for axis in (real, blocks)]
        data.append((apart[0], apart[1], (model.noise / model.kernel.noise) ** 2, model.left))

    def loss(logs: FloatArray) -> float:
        amplitude, real_scale, padded_scale, noise = np.exp(np.clip(logs, -12, 6))
        total = 0.5 * float((((logs - PRIOR_LOGS) / PRIOR_SPREADS) ** 2).sum())
        for real, blocks, factor, left in data:
            covariance = amplitude**2 * np.exp(-0.5 * (real / real_scale**2 + blocks / padded_scale**2))
            covariance[np.diag_indices_from(covariance)] += noise**2 * factor + 1e-10
            chol = cholesky(covariance, lower=True, check_finite=False)
            half = solve_triangular(chol, left, lower=True, check_finite=False)
            total += 0.5 * float(half @ half) + float(np.log(np.diag(chol)).sum())
        return total

    found = minimize(loss, PRIOR_LOGS, method="L-BFGS-B", options={"maxiter": 40})
    return float(found.fun), _kernel(found.x, models[0].grain)


def _kernel(logs: FloatArray, grain: int) -> Kernel:
    amplitude, real_scale, padded_scale, noise = np.exp(np.clip(logs, -12, 6)).tolist()
    return Kernel(amplitude, real_scale, padded_scale, noise, grain)

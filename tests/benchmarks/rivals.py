"""What others do with the same measurements: a NetAdapt grid, a line through the FLOPs, nn-Meter's forest of layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from sklearn.ensemble import RandomForestRegressor

from hwloop.layers import Layer, ScalableNetwork
from hwloop.layers.ops import OPS
from hwloop.predictors.layer_features import family, is_tied, work_of
from hwloop.tables import LatencyTable, geometry

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


class NetAdaptGrid:
    """Layers added up, cubic radial basis functions between the measured widths (Yang et al. 2018, section 3.3)."""

    def __init__(self, scalable: ScalableNetwork, table: LatencyTable) -> None:
        self._scalable = scalable
        self._costs = table.costs(scalable.layers, 1)
        self._curves: dict[str, object] = {}

    def predict(self, widths: IntArray, blocks: BoolArray) -> FloatArray:
        """(n,) latencies in ms; layers that were not measured count 0."""
        inputs, outputs = self._scalable.channels(widths)
        executed = self._scalable.present(blocks)
        total = np.zeros(len(widths))
        for index, layer in enumerate(self._scalable.layers):
            points = self._costs.points.get(geometry(layer))
            if not points:
                continue
            tied = is_tied(layer)
            at = np.array([[p.inputs] if tied else [p.inputs, p.outputs] for p in points], dtype=float)
            asked = inputs[:, [index]] if tied else np.stack([inputs[:, index], outputs[:, index]], axis=1)
            total += executed[:, index] * _rbf(at, np.array([p.latency_ms for p in points]), asked.astype(float))
        return total


def _rbf(at: FloatArray, values: FloatArray, asked: FloatArray) -> FloatArray:
    live = np.ptp(at, axis=0) > 0
    if not live.any() or len(at) < 3:
        return np.full(len(asked), float(values.mean()))
    scale = at[:, live].max(0)
    at, asked = at[:, live] / scale, asked[:, live] / scale
    at, places = np.unique(at, axis=0, return_inverse=True)
    values = np.bincount(places.ravel(), weights=values) / np.bincount(places.ravel())
    degree = 1 if len(at) > at.shape[1] + 1 else 0
    try:
        found = RBFInterpolator(at, values, kernel="cubic" if degree else "linear", degree=degree)(asked)
    except np.linalg.LinAlgError:
        return np.full(len(asked), float(values.mean()))
    return np.asarray(found, dtype=np.float64)


class FlopsLine:
    """A line through the multiply-accumulates of measured networks, by relative least squares."""

    def __init__(self, macs: FloatArray, latencies_ms: FloatArray) -> None:
        design = np.stack([macs, np.ones(len(macs))], axis=1) / latencies_ms[:, None]
        self._line = np.linalg.lstsq(design, np.ones(len(macs)), rcond=None)[0]

    def predict(self, macs: FloatArray) -> FloatArray:
        """(n,) latencies in ms."""
        return np.asarray(self._line[0] * macs + self._line[1], dtype=np.float64)


class LayerForest:
    """A random forest per kind of layer on shapes, work and bytes, summed (nn-Meter, Zhang et al. 2021, section 5)."""

    def __init__(self, scalable: ScalableNetwork, table: LatencyTable, seed: int) -> None:
        self._scalable = scalable
        grouped: dict[str, list[tuple[FloatArray, float]]] = {}
        for row in table.rows:
            if row.usable:
                layer = Layer.parse(row.key)
                ins, outs = np.array([layer.in_channels]), np.array([layer.out_channels])
                grouped.setdefault(family(layer), []).append((_shape(layer, ins, outs)[0], row.latency_ms))
        self._forests = {
            name: RandomForestRegressor(100, random_state=seed, n_jobs=1).fit(
                np.array([x for x, _ in rows]), [y for _, y in rows]
            )
            for name, rows in grouped.items()
        }

    def predict(self, widths: IntArray, blocks: BoolArray) -> FloatArray:
        """(n,) latencies in ms; kinds of layers that were not measured count 0."""
        inputs, outputs = self._scalable.channels(widths)
        total = np.zeros(len(widths))
        executed = self._scalable.present(blocks)
        for index, layer in enumerate(self._scalable.layers):
            forest = self._forests.get(family(layer))
            if forest is not None and not OPS[layer.op].view:
                total += executed[:, index] * forest.predict(_shape(layer, inputs[:, index], outputs[:, index]))
        return total


def _shape(layer: Layer, inputs: IntArray, outputs: IntArray) -> FloatArray:
    work = work_of(layer, inputs, outputs, 1)
    size = layer.input_shapes[0][2] if len(layer.input_shapes[0]) == 4 else 1
    fixed: Sequence[float] = (size, layer.kernel[0], layer.stride[0], float(layer.residual), math.prod(layer.kernel))
    columns = [np.full(len(inputs), value) for value in fixed]
    return np.stack([*columns, inputs, outputs, work.macs, work.bytes], axis=1).astype(np.float64)

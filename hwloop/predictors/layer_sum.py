"""The sum of a network's layers, for thousands of candidates at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwloop.layers import ScalableNetwork
from hwloop.layers.ops import OPS
from hwloop.tables import KINDS, LayerCosts, geometry

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

DENSE_CELLS = 2_000_000
"""Up to this many possible pairs of widths, a table of all of them finds the distinct ones faster than sorting."""

_INTERPOLATED, _EXTRAPOLATED, _UNSUPPORTED = (KINDS.index(k) for k in ("interpolated", "extrapolated", "unsupported"))


@dataclass(frozen=True)
class LayerSums:
    """Sums over the layers of n candidates.

    Attributes:
        total_ms: (n,) sum of the layers' latencies; layers in `missing` count 0.
        weight_bytes: (n,) bytes of the constants.
        bytes_moved: (n,) bytes that pass through memory when every tensor and weight passes once.
        interpolated_share: (n,) share of `total_ms` from layers whose widths were not measured.
        extrapolated_low_ms: (n,) how much lower the sum may be because of layers beyond the measured widths.
        extrapolated_high_ms: (n,) how much higher.
        missing: names of the nodes for which nothing of their geometry was measured.
    """

    total_ms: FloatArray
    weight_bytes: FloatArray
    bytes_moved: FloatArray
    interpolated_share: FloatArray
    extrapolated_low_ms: FloatArray
    extrapolated_high_ms: FloatArray
    missing: tuple[str, ...]


class LayerSum:
    """Looks up all layers of many candidates by geometry, not one by one.

    The 57 convolutions of a ResNet-56 have a dozen geometries. For each, the pairs of widths that occur among
    the candidates are evaluated once.

    A view (flatten, reshape) whose geometry was not measured counts 0 and is not missing: it moves nothing.

    Args:
        scalable: the network.
        costs: of its layers; of all geometries that were measured.
    """

    def __init__(self, scalable: ScalableNetwork, costs: LayerCosts) -> None:
        self._scalable = scalable
        self._costs = costs
        layers = scalable.network.layers
        members: dict[str, list[int]] = {}
        for index, layer in enumerate(layers):
            members.setdefault(geometry(layer), []).append(index)
        self._known = [np.array(members[name]) for name in members if name in costs.points]
        self.missing = tuple(
            node.name
            for node in scalable.network.nodes
            if geometry(node.layer) not in costs.points and not OPS[node.layer.op].view
        )
        # Bytes of one channel of the data that a layer reads and writes; weights are added as a whole.
        self._in_bytes = np.zeros(len(layers))
        self._out_bytes = np.zeros(len(layers))
        for index, layer in enumerate(layers):
            residual = layer.residual * layer.output_bytes  # read, and as wide as the output
            read = layer.bytes_read - layer.weight_bytes - residual
            self._in_bytes[index] = read / max(layer.in_channels, 1)
            self._out_bytes[index] = (layer.bytes_written + residual) / max(layer.out_channels, 1)

    def at(self, widths: ArrayLike) -> LayerSums:
        """The sums of (n, G) group widths."""
        inputs, outputs = self._scalable.channels(widths)
        count = len(inputs)
        total, unmeasured, lower, higher = (np.zeros(count) for _ in range(4))
        for indices in self._known:
            ins, outs = inputs[:, indices], outputs[:, indices]
            layer = self._scalable.network.layers[int(indices[0])]
            pair_inputs, pair_outputs, inverse = _distinct_pairs(ins, outs)
            values = self._costs.at(layer, pair_inputs, pair_outputs)
            beyond = values.kind == _EXTRAPOLATED
            table = np.stack(
                [
                    values.latency_ms,
                    np.where(values.kind >= _INTERPOLATED, values.latency_ms, 0),
                    np.where(beyond, values.latency_ms - values.low_ms, 0),
                    np.where(beyond, values.high_ms - values.latency_ms, 0),
                ]
            )
            sums = table[:, inverse].sum(axis=2)
            total += sums[0]
            unmeasured += sums[1]
            lower += sums[2]
            higher += sums[3]
        weights = self._scalable.weight_bytes(widths).astype(np.float64)
        moved = inputs @ self._in_bytes + outputs @ self._out_bytes + weights
        share = np.divide(unmeasured, total, out=np.zeros(count), where=total > 0)
        return LayerSums(total, weights, moved, share, lower, higher, self.missing)


def _distinct_pairs(inputs: IntArray, outputs: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """The distinct pairs among two arrays of one shape, and for each element the position of its pair."""
    stride = int(outputs.max(initial=0)) + 1
    codes = inputs * stride + outputs
    cells = (int(inputs.max(initial=0)) + 1) * stride
    if cells > DENSE_CELLS:
        distinct, inverse = np.unique(codes, return_inverse=True)
        return distinct // stride, distinct % stride, inverse.reshape(codes.shape)
    present = np.zeros(cells, dtype=np.bool_)
    present[codes] = True
    distinct = np.flatnonzero(present)
    position = np.empty(cells, dtype=np.int64)
    position[distinct] = np.arange(len(distinct))
    return distinct // stride, distinct % stride, position[codes]

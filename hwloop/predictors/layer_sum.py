"""The sum of a network's layers, for thousands of candidates at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwloop.layers import ScalableNetwork
from hwloop.layers.ops import OPS
from hwloop.predictors.correction import ACTIVATIONS, PARTS, NetworkTerms
from hwloop.predictors.layer_features import traffic_of
from hwloop.predictors.layer_model import (
    EXTRAPOLATED,
    INTERPOLATED,
    KINDS,
    MISSING,
    ROOFLINE,
    LayerModel,
    LayerValues,
)
from hwloop.tables import geometry

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

DENSE_CELLS = 2_000_000
"""Up to this many possible pairs of widths, a table of all of them finds the distinct ones faster than sorting."""


@dataclass(frozen=True)
class LayerSums:
    """Sums over the layers of n candidates.

    Attributes:
        terms: the sums as the correction takes them.
        spread_ms: (n,) standard deviation of the sum: errors of one geometry's layers are taken to be one error,
            those of different geometries independent.
        weight_bytes: (n,) bytes of the constants.
        kind_ms: (n, k) part of the sum by the code of `layer_model.KINDS`.
    """

    terms: NetworkTerms
    spread_ms: FloatArray
    weight_bytes: FloatArray
    kind_ms: FloatArray

    @property
    def total_ms(self) -> FloatArray:
        """(n,) sum of the layers; layers of which nothing is known count 0."""
        return self.terms.sums_ms

    @property
    def moved_bytes(self) -> FloatArray:
        """(n,) bytes of activations and weights, each once."""
        moved: FloatArray = self.terms.parts[:, ACTIVATIONS - 1] + self.weight_bytes
        return moved

    @property
    def unmeasured_share(self) -> FloatArray:
        """(n,) share of the sum from layers whose widths were not measured."""
        unmeasured = self.kind_ms[:, [INTERPOLATED, EXTRAPOLATED, ROOFLINE]].sum(axis=1)
        share = np.zeros(len(unmeasured))
        np.divide(unmeasured, self.total_ms, out=share, where=self.total_ms > 0)
        return share


class LayerSum:
    """Looks up all layers of many candidates by geometry, not one by one.

    The 57 convolutions of a ResNet-56 have a dozen geometries. For each, the pairs of widths that occur among
    the candidates are evaluated once.

    Args:
        scalable: the network.
        model: of its layers.
    """

    def __init__(self, scalable: ScalableNetwork, model: LayerModel) -> None:
        self._scalable = scalable
        self._model = model
        layers = scalable.layers
        members: dict[str, list[int]] = {}
        for index, layer in enumerate(layers):
            if not OPS[layer.op].view:
                members.setdefault(geometry(layer), []).append(index)
        self._members = [np.array(indices) for indices in members.values()]
        kinds = [model.kind_of(layer) for layer in layers]
        names = [node.name for node in scalable.nodes]
        self.missing = tuple(name for name, kind in zip(names, kinds, strict=True) if kind == MISSING)
        self.roofline = tuple(
            name
            for name, kind, layer in zip(names, kinds, layers, strict=True)
            if kind == ROOFLINE and not OPS[layer.op].view
        )

    def at(self, widths: ArrayLike, blocks: ArrayLike | None = None) -> LayerSums:
        """The sums of (n, G) group widths and (n, B) flags of the blocks that remain (None: all do)."""
        inputs, outputs = self._scalable.channels(widths)
        count = len(inputs)
        executed = np.broadcast_to(self._scalable.present(blocks), inputs.shape)
        everywhere = np.asarray(executed.all(axis=0))
        geometries = np.zeros((count, len(self._members)))
        by_kind = np.zeros((count, len(KINDS)))
        parts = np.zeros((count, PARTS))
        variance = np.zeros(count)
        for position, indices in enumerate(self._members):
            values, table, inverse = self._looked_up(indices, inputs[:, indices], outputs[:, indices])
            if not everywhere[indices].all():
                # A layer that a candidate does not execute gets the row of zeros.
                inverse = np.where(executed[:, indices], inverse, len(table) - 1)
            kinds = np.unique(values.kind)
            by_code = [np.append(np.where(values.kind == kind, values.latency_ms, 0), 0) for kind in kinds]
            sums = _gathered(np.column_stack([table, *by_code]), inverse)
            geometries[:, position] = sums[:, 0]
            variance += sums[:, 1] ** 2
            parts[:, [1, 2, 4, 5]] += sums[:, 2:6]
            by_kind[:, kinds] += sums[:, 6:]
        weights = self._scalable.weight_bytes(widths, blocks).astype(np.float64)
        parts[:, 0], parts[:, 3] = 1, weights
        terms = NetworkTerms(geometries.sum(axis=1), parts, geometries)
        return LayerSums(terms, np.sqrt(variance), weights, by_kind)

    def layer_values(
        self, widths: ArrayLike, blocks: ArrayLike | None = None
    ) -> tuple[FloatArray, FloatArray, IntArray]:
        """Latency in ms (0 where not executed), spread and kind of every layer: three (n, L) arrays."""
        inputs, outputs = self._scalable.channels(widths)
        executed = np.broadcast_to(self._scalable.present(blocks), inputs.shape)
        latency, spread = np.zeros(inputs.shape), np.zeros(inputs.shape)
        kinds = np.zeros(inputs.shape, dtype=np.int64)
        for indices in self._members:
            values, _, inverse = self._looked_up(indices, inputs[:, indices], outputs[:, indices])
            latency[:, indices] = values.latency_ms[inverse] * executed[:, indices]
            spread[:, indices] = values.spread[inverse]
            kinds[:, indices] = values.kind[inverse]
        return latency, spread, kinds

    def _looked_up(self, indices: IntArray, ins: IntArray, outs: IntArray) -> tuple[LayerValues, FloatArray, IntArray]:
        """Look up the distinct pairs of widths of one geometry's layers.

        Returns:
            The values of the pairs; a row for each (latency, spread in ms, 1, and the bytes of `LayerTraffic`) and one
            of zeros; and for each layer of each candidate which row is its own.
        """
        layer = self._scalable.layers[int(indices[0])]
        pair_inputs, pair_outputs, inverse = _distinct_pairs(ins, outs)
        values = self._model.at(layer, pair_inputs, pair_outputs)
        traffic = traffic_of(layer, pair_inputs, pair_outputs, self._model.grain)
        columns = [
            values.latency_ms,
            values.latency_ms * values.spread,
            np.ones(len(pair_inputs)),
            traffic.activations,
            traffic.part_blocks,
            traffic.plain_reads,
        ]
        table = np.zeros((len(pair_inputs) + 1, len(columns)))
        table[:-1] = np.stack(columns, axis=1)
        return values, table, inverse


def _gathered(table: FloatArray, inverse: IntArray) -> FloatArray:
    """(n, c) sums over the layers of the rows of (p, c) that an (n, l) array names."""
    total = table[inverse[:, 0]]
    for column in range(1, inverse.shape[1]):
        total += table[inverse[:, column]]
    return total


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

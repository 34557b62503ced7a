"""What to measure next: where the predictor is unsure, and the search is looking.

Pure decisions; who measures is elsewhere (`hwloop.measurement.adaptive`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hwloop.layers import Layer
from hwloop.layers.ops import OPS
from hwloop.predictors.correction import NetworkTerms
from hwloop.predictors.layer_model import GeometryModel
from hwloop.predictors.network_predictor import NetworkPredictor
from hwloop.tables import geometry

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

MOST_PAIRS = 150
"""Pairs of widths of one geometry that are weighed; those that make up most of the candidates' latency come first."""


@dataclass(frozen=True)
class Pool:
    """Candidates among which the search is looking.

    Attributes:
        widths: (n, G).
        blocks: (n, B) flags of the blocks that remain; None: all do.
    """

    widths: IntArray
    blocks: BoolArray | None = None

    def __getitem__(self, rows: IntArray) -> Pool:
        return Pool(self.widths[rows], None if self.blocks is None else self.blocks[rows])


def near_front(latency_ms: FloatArray, quality: FloatArray, count: int) -> IntArray:
    """Positions of the `count` candidates nearest to the front of low latency and high quality, nearest first.

    A candidate's distance is its latency over the lowest latency of any candidate of at least its quality.
    """
    order = np.argsort(-quality, kind="stable")
    best = np.minimum.accumulate(latency_ms[order])
    # Of equal qualities each counts for all.
    last = np.searchsorted(-quality[order], -quality[order], side="right") - 1
    distance = np.empty(len(order))
    distance[order] = latency_ms[order] / best[last]
    return np.asarray(np.argsort(distance, kind="stable")[:count], dtype=np.int64)


def choose_layers(predictor: NetworkPredictor, pool: Pool, count: int, known: Collection[str] = ()) -> list[Layer]:
    """The layers whose measurement lowers the variance of the pool's relative latencies most, greedily.

    For one geometry with posterior covariance K of its pairs of widths and candidates that are A in them (each
    pair's share of the candidate's latency), measuring pair p takes sum_c (A K)_cp^2 / (K_pp + noise^2) off the
    candidates' variances. Geometries of which nothing was measured come first, at their widest.

    Args:
        predictor: of the network.
        pool: candidates that matter, at least one.
        count: at most so many layers.
        known: keys of layers that need no measurement (any more).
    """
    scalable = predictor.scalable
    inputs, outputs = scalable.channels(pool.widths)
    executed = np.broadcast_to(scalable.present(pool.blocks), inputs.shape)
    total = np.maximum(predictor.sums(pool.widths, pool.blocks).total_ms, 1e-12)
    members: dict[str, list[int]] = {}
    for index, layer in enumerate(scalable.layers):
        if layer.supported and not OPS[layer.op].view and executed[:, index].any():
            members.setdefault(geometry(layer), []).append(index)
    chosen: dict[str, Layer] = {}
    weighed: list[_Weighed] = []
    for name, indices in members.items():
        layer = scalable.layers[indices[0]]
        model = predictor.layers.geometries.get(name)
        if model is None:
            row = int(np.argmax((outputs * executed)[:, indices[0]]))
            made = _resized(layer, int(inputs[row, indices[0]]), int(outputs[row, indices[0]]))
            if made is not None and made.key not in known:
                chosen.setdefault(made.key, made)
            continue
        one = _weigh(model, inputs[:, indices], outputs[:, indices], executed[:, indices], total)
        if one is not None:
            weighed.append(one)
    while len(chosen) < count and weighed:
        best = max(weighed, key=lambda one: one.gain)
        if best.gain <= 0:
            break
        taken = best.take()
        if taken is not None and taken.key not in known:
            chosen.setdefault(taken.key, taken)
    return list(chosen.values())[:count]


def choose_networks(predictor: NetworkPredictor, pool: Pool, count: int, known: BoolArray | None = None) -> list[int]:
    """Positions of the candidates whose latency the correction is least sure of, one after the other.

    After each choice the correction is told its own prediction of it (a "kriging believer", Ginsbourger, Le Riche,
    Carraro 2010), so that the next is not its twin.

    Args:
        predictor: fitted on at least one network.
        pool: candidates.
        count: at most so many.
        known: (n,) which of them have been measured.
    """
    correction, terms = predictor.correction, predictor.sums(pool.widths, pool.blocks).terms
    free = np.ones(len(terms), bool) if known is None else ~known
    chosen: list[int] = []
    while len(chosen) < count and free.any() and correction.terms is not None:
        corrected = correction.apply(terms)
        best = int(np.argmax(np.where(free, corrected.spread, -1)))
        chosen.append(best)
        free[best] = False
        correction = replace(
            correction,
            terms=_joined(correction.terms, terms[[best]]),
            latencies_ms=np.append(correction.latencies_ms, corrected.latency_ms[best]),
            noise_factors=np.append(correction.noise_factors, 1.0),
        )
    return chosen


@dataclass
class _Weighed:
    """The pairs of one geometry, with what measuring each would bring."""

    model: GeometryModel
    inputs: IntArray
    outputs: IntArray
    shares: FloatArray
    covariance: FloatArray

    def __post_init__(self) -> None:
        self._weigh()

    def _weigh(self) -> None:
        own = np.diag(self.covariance) + self.model.kernel.noise**2
        gains = ((self.shares @ self.covariance) ** 2).sum(axis=0) / own
        self.best = int(np.argmax(gains))
        self.gain = float(gains[self.best])

    def take(self) -> Layer | None:
        """The best pair as a layer; it counts as measured from now on."""
        column = self.covariance[:, self.best].copy()
        self.covariance = self.covariance - np.outer(column, column) / (column[self.best] + self.model.kernel.noise**2)
        # Measuring the same layer once more is not offered: that would be another process, not another layer.
        self.covariance[self.best], self.covariance[:, self.best] = 0, 0
        made = _resized(self.model.layer, int(self.inputs[self.best]), int(self.outputs[self.best]))
        self._weigh()
        return made


def _weigh(
    model: GeometryModel, inputs: IntArray, outputs: IntArray, executed: BoolArray, total: FloatArray
) -> _Weighed | None:
    stride = int(outputs.max()) + 1
    codes = inputs * stride + outputs
    pairs, inverse = np.unique(codes[executed], return_inverse=True)
    ins, outs = pairs // stride, pairs % stride
    latency = model.at(ins, outs).latency_ms
    rows = np.nonzero(executed)[0]
    shares = np.zeros((len(inputs), len(pairs)))
    np.add.at(shares, (rows, inverse), latency[inverse] / total[rows])
    kept = np.argsort(-shares.sum(axis=0), kind="stable")[:MOST_PAIRS]
    ins, outs, shares = ins[kept], outs[kept], shares[:, kept]
    covariance = model.covariance((ins, outs), (ins, outs))
    measured = ((ins[:, None] == model.inputs) & (outs[:, None] == model.outputs)).any(axis=1)
    if measured.all():
        return None
    covariance[measured], covariance[:, measured] = 0, 0
    return _Weighed(model, ins, outs, shares, covariance)


def _resized(layer: Layer, inputs: int, outputs: int) -> Layer | None:
    """The layer at a pair of widths; None where several inputs share the width in a way that is not known."""
    if len(layer.input_shapes) == 1:
        return layer.resized((inputs,), outputs)
    if layer.op in ("add", "sub", "mul", "div") and layer.in_channels == layer.out_channels:
        return layer.resized((inputs,) * len(layer.input_shapes), outputs)
    return None


def _joined(first: NetworkTerms, second: NetworkTerms) -> NetworkTerms:
    return NetworkTerms(
        np.concatenate([first.sums_ms, second.sums_ms]),
        np.concatenate([first.parts, second.parts]),
        np.concatenate([first.geometries_ms, second.geometries_ms]),
    )

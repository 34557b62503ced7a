"""Latency over the widths of one geometry: exact where measured, interpolated between, conservative beyond.

Widths are counted in blocks of the device's grain, because latency is a staircase in channels: all widths
that need the same number of blocks cost the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator
from scipy.optimize import nnls
from scipy.spatial import Delaunay, QhullError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

KINDS = ("exact", "interpolated", "extrapolated", "unsupported")
"""What a value is, by its code in `SurfaceValues.kind`."""

EXACT, INTERPOLATED, EXTRAPOLATED, UNSUPPORTED = range(4)

RIDGE = 1e-3
"""Keeps the regression well-conditioned when there are fewer points than terms; far below any real effect."""

INTERVAL_LEVEL = 0.9
"""Quantile of the leave-one-out misfit that is added to the interval of a regressed value."""

GRID_SHARE = 0.6
"""A full grid inside the points is used when it holds at least this share of them."""


@dataclass(frozen=True)
class SurfaceValues:
    """Latencies at n pairs of widths.

    Attributes:
        latency_ms: (n,).
        low_ms: (n,) lower end of what the latency may be.
        high_ms: (n,) upper end.
        kind: (n,) codes, see `KINDS`.
    """

    latency_ms: FloatArray
    low_ms: FloatArray
    high_ms: FloatArray
    kind: NDArray[np.uint8]


class Surface:
    """Interpolates the measured points of one geometry.

    - A pair of widths that was measured gets its measured value.
    - Points that form a full grid of blocks (or hold one as their greater part) are interpolated
      multilinearly.
    - Other points get a non-negative regression on 1, blocks in, blocks out and their product; what it leaves
      is shared with near points (inverse distance in the logarithm of the blocks) when that lowers the
      leave-one-out error.
    - Where input and output widths go hand in hand (pools, depthwise convolutions, flatten), there is one
      axis.
    - Outside the measured widths a larger layer costs proportionally more (too much, since part of the cost
      is constant) and a smaller one is given no credit; the interval says how far off that may be.

    Args:
        inputs: (n,) input widths of the points, n >= 1; pairs are distinct.
        outputs: (n,) output widths.
        values_ms: (n, 3) latency and the two ends of its interval, positive.
        grain: channels per block.
        tied: the output width follows from the input width.
    """

    def __init__(
        self,
        inputs: IntArray,
        outputs: IntArray,
        values_ms: FloatArray,
        *,
        grain: int = 1,
        tied: bool = False,
    ) -> None:
        order = np.lexsort((outputs, inputs))
        self._inputs, self._outputs, self._values = inputs[order], outputs[order], values_ms[order]
        self._grain = grain
        self._codes = _code(self._inputs, self._outputs)
        by_code = np.argsort(self._codes, kind="stable")
        self._sorted_codes, self._by_code = self._codes[by_code], by_code
        self._tied = tied
        blocks = self._blocks(self._inputs, self._outputs)
        # Several widths share a block: the staircase says they cost the same, so their mean is the better
        # number.
        self._nodes, inverse = np.unique(blocks, axis=0, return_inverse=True)
        counts = np.bincount(inverse.ravel())
        self._node_values = np.stack(
            [np.bincount(inverse.ravel(), weights=self._values[:, k]) / counts for k in range(3)], axis=1
        )
        self._law = _fit(self._nodes, self._node_values)

    def at(self, inputs: IntArray, outputs: IntArray) -> SurfaceValues:
        """Evaluate n pairs of widths.

        Args:
            inputs: (n,).
            outputs: (n,).
        """
        values, inside = self._law.at(self._blocks(inputs, outputs))
        kind = np.where(inside, INTERPOLATED, EXTRAPOLATED).astype(np.uint8)
        codes = _code(inputs, outputs)
        position = np.minimum(np.searchsorted(self._sorted_codes, codes), len(self._sorted_codes) - 1)
        measured = self._sorted_codes[position] == codes
        values[measured] = self._values[self._by_code[position[measured]]]
        kind[measured] = EXACT
        return SurfaceValues(values[:, 0], values[:, 1], values[:, 2], kind)

    def _blocks(self, inputs: IntArray, outputs: IntArray) -> FloatArray:
        axes = [inputs] if self._tied else [inputs, outputs]
        return np.stack([-(-axis // self._grain) for axis in axes], axis=1).astype(np.float64)


def _code(inputs: IntArray, outputs: IntArray) -> IntArray:
    code: IntArray = (np.asarray(inputs, dtype=np.int64) << 32) | np.asarray(outputs, dtype=np.int64)
    return code


class _Law(ABC):
    """Values at blocks inside the hull of the nodes; beyond it the conservative rule."""

    def __init__(self, low: FloatArray, high: FloatArray) -> None:
        self._low, self._high = low, high

    def at(self, blocks: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Return (n, 3) values and (n,) whether they are inside."""
        clamped = np.clip(blocks, self._low, self._high)
        values, inside = self._within(clamped)
        ratio = blocks / clamped
        more, less = np.maximum(ratio, 1).prod(axis=1), np.minimum(ratio, 1).prod(axis=1)
        values = values * np.stack([more, less, more], axis=1)
        return values, inside & (ratio == 1).all(axis=1)

    @abstractmethod
    def _within(self, blocks: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        """The same for blocks inside the box around the nodes."""


class _Grid(_Law):
    """Multilinear on a full grid."""

    def __init__(self, axes: list[FloatArray], values: FloatArray) -> None:
        super().__init__(np.array([a[0] for a in axes]), np.array([a[-1] for a in axes]))
        self._live = [k for k, axis in enumerate(axes) if len(axis) > 1]
        cube = values.reshape(*[len(axes[k]) for k in self._live], 3)
        self._constant = cube if not self._live else None
        if self._live:
            self._interpolate = RegularGridInterpolator([axes[k] for k in self._live], cube)

    def _within(self, blocks: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        inside = np.ones(len(blocks), dtype=np.bool_)
        if self._constant is not None:
            return np.tile(self._constant, (len(blocks), 1)), inside
        return self._interpolate(blocks[:, self._live]), inside


class _Regression(_Law):
    """Non-negative regression on [1, bi, bo, bi * bo]; residuals are shared among near points if it pays."""

    def __init__(self, nodes: FloatArray, values: FloatArray) -> None:
        super().__init__(nodes.min(axis=0), nodes.max(axis=0))
        self._scale = nodes.max(axis=0)
        design = self._terms(nodes)
        latency = values[:, 0]
        penalty = RIDGE * np.eye(design.shape[1])
        rows = np.vstack([design / latency[:, None], penalty / np.median(latency)])
        self._coefficients = nnls(rows, np.concatenate([np.ones(len(latency)), np.zeros(len(penalty))]))[0]
        left = np.log(latency / (design @ self._coefficients))
        self._logs = np.log(nodes)
        shared = np.array([self._share(self._logs[k : k + 1], left, skip=k)[0] for k in range(len(left))])
        self._pays = bool(np.abs(left - shared).mean() < np.abs(left).mean())
        self._left = left
        # Too few points to estimate the misfit well: the widest one stands in.
        misfit = np.abs(left - shared) if self._pays else np.abs(left)
        self._spread = float(np.quantile(misfit, INTERVAL_LEVEL, method="higher"))
        self._half_width = float(np.median((values[:, 2] - values[:, 1]) / (2 * latency)))
        self._hull = _hull(nodes)

    def _terms(self, blocks: FloatArray) -> FloatArray:
        scaled = blocks / self._scale
        columns = [np.ones(len(blocks)), *scaled.T]
        if scaled.shape[1] > 1:
            columns.append(scaled.prod(axis=1))
        return np.stack(columns, axis=1)

    def _share(self, logs: FloatArray, left: FloatArray, skip: int | None = None) -> FloatArray:
        """Inverse-distance mean of the residuals; the 1 in the weight shrinks it to 0 far from all points."""
        squared = ((logs[:, None, :] - self._logs[None, :, :]) ** 2).sum(axis=2)
        weights = 1 / (squared + 1e-4)
        if skip is not None:
            weights[:, skip] = 0
        return np.asarray(weights @ left / (weights.sum(axis=1) + 1), dtype=np.float64)

    def _within(self, blocks: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        latency = self._terms(blocks) @ self._coefficients
        if self._pays:
            latency = latency * np.exp(self._share(np.log(blocks), self._left))
        inside = np.ones(len(blocks), dtype=np.bool_)
        if self._hull is not None:
            inside = self._hull.find_simplex(blocks, tol=1e-9) >= 0
        spread = np.exp(self._spread * np.where(inside, 1, 2)) * (1 + self._half_width)
        return np.stack([latency, latency / spread, latency * spread], axis=1), inside


def _hull(nodes: FloatArray) -> Delaunay | None:
    try:
        return Delaunay(nodes) if nodes.shape[1] > 1 and len(nodes) > nodes.shape[1] else None
    except QhullError:  # all on one line: the box around them has to do
        return None


def _fit(nodes: FloatArray, values: FloatArray) -> _Law:
    kept = _largest_grid(nodes)
    if len(kept) < max(2, GRID_SHARE * len(nodes)) and len(nodes) > 1:
        return _Regression(nodes, values)
    axes = [np.unique(nodes[kept, k]) for k in range(nodes.shape[1])]
    return _Grid(axes, values[kept])  # nodes are sorted by first, then second axis: the order of the grid


def _largest_grid(nodes: FloatArray) -> IntArray:
    """Indices of a full grid inside the nodes: greedily drops the emptiest line while there is a hole."""
    kept = np.arange(len(nodes))
    while True:
        axes = [np.unique(nodes[kept, k], return_counts=True) for k in range(nodes.shape[1])]
        if len(kept) == np.prod([len(values) for values, _ in axes]):
            return kept
        # The share of a line's cells that are filled: the other axes say how many cells it has.
        cells = np.prod([len(values) for values, _ in axes])
        shares = [counts * len(values) / cells for values, counts in axes]
        axis = int(np.argmin([share.min() for share in shares]))
        emptiest = axes[axis][0][np.argmin(shares[axis])]
        kept = kept[nodes[kept, axis] != emptiest]

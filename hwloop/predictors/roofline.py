"""Layers of a geometry of which nothing was measured: an analytic roofline, fitted on the device's own table.

``latency = dispatch + max(MACs / peak, bytes / bandwidth)`` (Williams, Waterman, Patterson 2009, "Roofline", with a
constant for the dispatch of a kernel), peak and dispatch for each family of kernels. It knows nothing of tiles and
caches, so what it says is marked, and wide: its spread is what it leaves on the layers that were measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from hwloop.layers import Layer
from hwloop.predictors.layer_features import IntArray, family, work_of
from hwloop.tables import width_pair

FloatArray = NDArray[np.float64]

FEWEST_POINTS = 6
"""A family with fewer measured layers shares the roof of all layers."""

LEAST_SPREAD = 0.1
"""No roof is trusted more than this, however well it fits: it was fitted on other layers."""

ALL = "all"


@dataclass(frozen=True)
class Roof:
    """One fitted roofline.

    Attributes:
        dispatch_ms: constant.
        ms_per_mac: at peak.
        ms_per_byte: at full bandwidth.
        spread: standard deviation of the logarithm of measured / predicted.
        points: layers that it was fitted on.
    """

    dispatch_ms: float
    ms_per_mac: float
    ms_per_byte: float
    spread: float
    points: int

    def at(self, macs: FloatArray, moved: FloatArray) -> FloatArray:
        """(n,) latencies in ms of (n,) MACs and bytes."""
        return self.dispatch_ms + np.maximum(self.ms_per_mac * macs, self.ms_per_byte * moved)


@dataclass(frozen=True)
class Roofline:
    """The roofs of a device by family; empty where nothing was measured.

    Attributes:
        roofs: by `layer_features.family`; ``all`` for families without one of their own.
        grain: channels per block.
    """

    roofs: Mapping[str, Roof]
    grain: int = 1

    def at(self, layer: Layer, inputs: IntArray, outputs: IntArray) -> tuple[FloatArray, float] | None:
        """(n,) latencies of layers of one geometry and their spread; None where nothing was measured at all."""
        roof = self.roofs.get(family(layer)) or self.roofs.get(ALL)
        if roof is None or not layer.supported:
            return None
        work = work_of(layer, inputs, outputs, self.grain)
        return roof.at(work.macs, work.bytes), roof.spread

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {"grain": self.grain, "roofs": {name: asdict(roof) for name, roof in self.roofs.items()}}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Roofline:
        """The inverse of `to_dict`."""
        return cls({name: Roof(**roof) for name, roof in content["roofs"].items()}, int(content["grain"]))


def fit_roofline(layers: Sequence[Layer], latencies_ms: Sequence[float], grain: int) -> Roofline:
    """Fit the roofs on measured layers (any layers of the device and runtime, not only the network's own)."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for layer, latency in zip(layers, latencies_ms, strict=True):
        pair = width_pair(layer)
        work = work_of(layer, np.array([pair.inputs]), np.array([pair.outputs]), grain)
        point = (float(work.macs[0]), float(work.bytes[0]), latency)
        for name in (family(layer), ALL):
            found.setdefault(name, []).append(point)
    roofs = {
        name: _fit(np.array(points)) for name, points in found.items() if name == ALL or len(points) >= FEWEST_POINTS
    }
    return Roofline(roofs, grain)


def _fit(points: FloatArray) -> Roof:
    macs, moved, latency = points.T
    # In logarithms, from a start at which each of the three terms could explain the median layer.
    middle = float(np.median(latency))
    start = np.log(
        [0.3 * float(latency.min()), middle / max(float(np.median(macs)), 1.0), middle / np.median(moved + 1)]
    )

    def residuals(logs: FloatArray) -> FloatArray:
        dispatch, per_mac, per_byte = np.exp(logs)
        misfit = np.log(dispatch + np.maximum(per_mac * macs, per_byte * moved)) - np.log(latency)
        # Too few layers do not decide all three: what they leave open stays near the start.
        return np.concatenate([misfit, 0.05 * (logs - start)])

    solution = least_squares(residuals, start, loss="soft_l1", f_scale=0.3).x
    misfit = residuals(solution)[: len(latency)]
    spread = max(LEAST_SPREAD, float(np.sqrt(np.mean(misfit**2))))
    dispatch, per_mac, per_byte = np.exp(solution).tolist()
    return Roof(dispatch, per_mac, per_byte, spread, len(latency))

"""What layers cost, looked up by geometry and widths: the table's answers without its history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hwloop.errors import UserError
from hwloop.layers import Layer
from hwloop.layers.ops import OPS
from hwloop.measurement import Interval
from hwloop.tables.geometry import geometry, width_pair
from hwloop.tables.surface import KINDS, UNSUPPORTED, Surface, SurfaceValues

Kind = Literal["exact", "interpolated", "extrapolated", "unsupported"]

TIED_RULES = ("same", "equal", "sum", "reshape")
"""Operations whose output width follows from their input width (`hwloop.layers.ops.WidthRule`)."""


@dataclass(frozen=True)
class Point:
    """What was measured at one pair of widths of a geometry.

    Attributes:
        inputs: input width.
        outputs: output width.
        latency_ms: positive.
        low_ms: lower end of its interval.
        high_ms: upper end.
        degraded: only degraded measurements were there.
    """

    inputs: int
    outputs: int
    latency_ms: float
    low_ms: float
    high_ms: float
    degraded: bool = False


@dataclass(frozen=True)
class Entry:
    """The answer to a lookup.

    Attributes:
        latency_ms: nan when unsupported.
        interval: what the latency may be, in ms; of the measurement when exact, wider when interpolated.
        kind: ``exact`` (these widths were measured), ``interpolated`` (between measured widths),
            ``extrapolated`` (beyond them: conservative), ``unsupported`` (nothing of this geometry was
            measured).
        degraded: a measurement behind the number was degraded.
        points: pairs of widths of this geometry that were measured.
        reasons: what a reader should know: where the number comes from, measurements of this key that failed.
    """

    latency_ms: float
    interval: Interval
    kind: Kind
    degraded: bool = False
    points: int = 0
    reasons: tuple[str, ...] = ()

    @property
    def supported(self) -> bool:
        """Whether there is a number."""
        return self.kind != "unsupported"


class LayerCosts:
    """Measured points by geometry, evaluated for many widths at once.

    Args:
        points: the points of each geometry (`hwloop.tables.geometry`).
        grain: channels per block of the device.

    Raises:
        UserError: a grain below 1.
    """

    def __init__(self, points: Mapping[str, Sequence[Point]], grain: int = 1) -> None:
        if grain < 1:
            raise UserError(f"the grain is a number of channels, at least 1; got {grain}")
        self._points = {name: tuple(found) for name, found in points.items() if found}
        self._surfaces: dict[str, Surface] = {}
        self.grain = grain

    @property
    def points(self) -> Mapping[str, tuple[Point, ...]]:
        """The measured points by geometry."""
        return self._points

    def at(self, layer: Layer, inputs: NDArray[np.int64], outputs: NDArray[np.int64]) -> SurfaceValues:
        """The costs of n layers that share a layer's geometry.

        Args:
            layer: any layer of the geometry.
            inputs: (n,) input widths.
            outputs: (n,) output widths.

        Returns:
            The values; kind "unsupported" and nan where nothing of the geometry was measured.
        """
        surface = self._surface(layer)
        if surface is None:
            nothing = np.full(len(inputs), np.nan)
            return SurfaceValues(nothing, nothing, nothing, np.full(len(inputs), UNSUPPORTED, dtype=np.uint8))
        return surface.at(inputs, outputs)

    def lookup(self, layer: Layer) -> Entry:
        """The cost of one layer; never raises on a layer that was not measured, and never hides it."""
        pair = width_pair(layer)
        values = self.at(layer, np.array([pair.inputs]), np.array([pair.outputs]))
        kind: Kind = KINDS[int(values.kind[0])]  # type: ignore[assignment]  # KINDS holds exactly the literals
        found = self._points.get(geometry(layer), ())
        interval = Interval(float(values.low_ms[0]), float(values.high_ms[0]))
        if kind == "unsupported":
            return Entry(float("nan"), interval, kind, reasons=("nothing of this geometry was measured",))
        same = [point for point in found if (point.inputs, point.outputs) == pair]
        degraded = any(point.degraded for point in (same if kind == "exact" else found))
        reasons: list[str] = []
        if kind != "exact":
            lows = min(p.inputs for p in found), min(p.outputs for p in found)
            highs = max(p.inputs for p in found), max(p.outputs for p in found)
            reasons.append(
                f"{kind} from {len(found)} measured widths, {lows[0]}-{highs[0]} in and {lows[1]}-{highs[1]} out"
            )
        if degraded:
            reasons.append("a degraded measurement is behind this number")
        return Entry(float(values.latency_ms[0]), interval, kind, degraded, len(found), tuple(reasons))

    def of(self, layers: Sequence[Layer]) -> LayerCosts:
        """The part that these layers need."""
        names = dict.fromkeys(geometry(layer) for layer in layers)
        return LayerCosts({name: self._points.get(name, ()) for name in names}, self.grain)

    def _surface(self, layer: Layer) -> Surface | None:
        name = geometry(layer)
        found = self._points.get(name)
        if found is None:
            return None
        if name not in self._surfaces:
            self._surfaces[name] = Surface(
                np.array([point.inputs for point in found], dtype=np.int64),
                np.array([point.outputs for point in found], dtype=np.int64),
                np.array([(point.latency_ms, point.low_ms, point.high_ms) for point in found], dtype=np.float64),
                grain=self.grain,
                tied=layer.depthwise or OPS[layer.op].width in TIED_RULES,
            )
        return self._surfaces[name]

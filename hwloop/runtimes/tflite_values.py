"""Where the constants of a layer come from when it is written as TFLite operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from hwloop.extraction.operators import COUNTED_PADDING
from hwloop.layers import Layer
from hwloop.runtimes.details import concat_operands, operand
from hwloop.runtimes.seeding import Array, SeededValues
from hwloop.runtimes.tflite_layout import Layout

_T = TypeVar("_T", int, float, str)


class LayerValues(Protocol):
    """The constants of one layer, in torch's layout, as float32."""

    def conv(self) -> tuple[Array, Array | None]:
        """Weights (out, in / groups, height, width) and bias, with everything folded in."""
        ...

    def linear(self) -> tuple[Array, Array | None]:
        """Weights (out, in) and bias, with everything folded in."""
        ...

    def batch_norm(self) -> tuple[Array, Array, Array, Array]:
        """Scale, shift, mean and variance, one value per channel each."""
        ...

    def layer_norm(self) -> tuple[Array, Array]:
        """Gain and shift, one value per feature each."""
        ...

    def operand(self) -> tuple[Array, bool]:
        """The constant of an elementwise layer with one input, and whether it comes before the input."""
        ...

    def joined(self) -> list[int | Array]:
        """The operands of a concatenation in order: the index of an input, or a constant."""
        ...

    def slopes(self) -> Array:
        """Of a PReLU, one per channel."""
        ...

    def bounds(self) -> tuple[float | None, float | None]:
        """Of a clip: the lowest and the highest value."""
        ...

    def fill(self) -> float:
        """What a pad adds."""
        ...

    def attribute(self, name: str, default: _T) -> _T:
        """An ONNX attribute of the layer; `default` for a layer that stands for all of its kind."""
        ...


class SeededLayerValues:
    """Values for a layer on its own: weights from a seed, constants that do not change the work."""

    def __init__(self, values: SeededValues) -> None:
        """Take the stream of the layer's values."""
        self._values = values

    def conv(self) -> tuple[Array, Array | None]:
        """See `LayerValues.conv`."""
        return self._values.conv()

    def linear(self) -> tuple[Array, Array | None]:
        """See `LayerValues.linear`."""
        return self._values.linear()

    def batch_norm(self) -> tuple[Array, Array, Array, Array]:
        """See `LayerValues.batch_norm`."""
        return self._values.batch_norm()

    def layer_norm(self) -> tuple[Array, Array]:
        """See `LayerValues.layer_norm`."""
        features = self._values.layer.out_channels
        return self._values.vector(features), self._values.vector(features)

    def operand(self) -> tuple[Array, bool]:
        """See `LayerValues.operand`."""
        return operand(self._values.layer), False

    def joined(self) -> list[int | Array]:
        """See `LayerValues.joined`."""
        return concat_operands(self._values.layer)[1]

    def slopes(self) -> Array:
        """See `LayerValues.slopes`."""
        return np.full(self._values.layer.out_channels, 0.25, np.float32)

    def bounds(self) -> tuple[float | None, float | None]:
        """See `LayerValues.bounds`."""
        return -1.0, 2.0

    def fill(self) -> float:
        """See `LayerValues.fill`."""
        return 0.0

    def attribute(self, name: str, default: _T) -> _T:
        """See `LayerValues.attribute`."""
        return default


@dataclass(frozen=True)
class Part:
    """One layer that is being written.

    Attributes:
        layer: the work.
        values: its constants.
        layout: of its tensors of rank 4.
    """

    layer: Layer
    values: LayerValues
    layout: Layout

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of the layer, as TFLite has it."""
        return self.layout.output_shape(self.layer)

    @property
    def counts_padding(self) -> bool:
        """Whether an average pool counts its padding as pixels."""
        return self.layer.detail == COUNTED_PADDING

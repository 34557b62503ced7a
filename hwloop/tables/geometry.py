"""A layer without its widths: the name under which measurements of different widths are put together."""

from __future__ import annotations

import re
from typing import NamedTuple

from hwloop.layers import Layer
from hwloop.layers.ops import channel_axis


class WidthPair(NamedTuple):
    """Input and output channels (features) of a layer."""

    inputs: int
    outputs: int


def width_pair(layer: Layer) -> WidthPair:
    """The two widths along which latency is interpolated."""
    return WidthPair(layer.in_channels, layer.out_channels)


def geometry(layer: Layer) -> str:
    """Everything in a layer's key but its widths.

    Two layers share a geometry if and only if `Layer.resized` can turn one into the other: operation, maps,
    kernel, stride, padding, dilation, groups, bias, activation, residual, data type and detail are equal. A
    depthwise convolution keeps one group per channel, whatever their number.

    Returns:
        A text like the layer's key with ``W`` for every width.
    """
    shapes = [_without_width(shape) for shape in layer.input_shapes]
    head, _, rest = layer.key.partition(">")
    tail = rest.partition(" ")[2]
    if layer.depthwise:
        tail = re.sub(rf"\bg{layer.groups}\b", "gW", tail, count=1)
    operation = head.partition(" ")[0]
    return f"{operation} {','.join(shapes) or '-'}>{_without_width(layer.output_shape)} {tail}"


def _without_width(shape: tuple[int, ...]) -> str:
    axis = channel_axis(shape)
    return "x".join("W" if i == axis else str(size) for i, size in enumerate(shape)) or "()"

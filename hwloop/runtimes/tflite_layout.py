"""From the layer's NCHW to TFLite's NHWC, and from explicit padding to SAME and VALID. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwloop.layers import Layer
from hwloop.runtimes.seeding import Array

Shape = tuple[int, ...]

TO_NHWC = (0, 2, 3, 1)
_AXIS_IN_NHWC = {0: 0, 1: 3, 2: 1, 3: 2}

AS_WRITTEN = frozenset({"matmul", "transpose"})
"""Operations whose tensors of rank 4 are no images: attention heads, and whatever a network transposes on purpose."""


def is_image(layer: Layer, shape: Shape) -> bool:
    """Whether a tensor of the layer is an image, and so has its channels last in TFLite.

    Every tensor of rank 4 is, apart from those of `AS_WRITTEN` and of a softmax over the last axis (attention).
    """
    if len(shape) != 4 or layer.op in AS_WRITTEN:
        return False
    return not (layer.op in ("softmax", "log_softmax") and layer.detail == "axis=3")


def tensor_shape(layer: Layer, shape: Shape) -> Shape:
    """A shape of the layer as TFLite has it."""
    return tuple(shape[axis] for axis in TO_NHWC) if is_image(layer, shape) else shape


def tensor_axis(layer: Layer, axis: int, shape: Shape) -> int:
    """An axis of a tensor of the layer as TFLite counts it."""
    return _AXIS_IN_NHWC[axis] if is_image(layer, shape) else axis


def tensor_values(layer: Layer, values: Array) -> Array:
    """Values of the layer in TFLite's order of memory."""
    return np.ascontiguousarray(values.transpose(TO_NHWC)) if is_image(layer, values.shape) else values


def aligned(shape: Shape, rank: int) -> Shape:
    """A shape with leading ones up to `rank`, as broadcasting reads it."""
    return (1,) * (rank - len(shape)) + shape


def output_shape(layer: Layer) -> Shape:
    """The shape of the layer's output in TFLite.

    A mean that drops axes of an image keeps the order of those that are left in NHWC.
    """
    shape = layer.input_shapes[0] if layer.input_shapes else ()
    if layer.op == "reduce_mean" and len(layer.output_shape) < len(shape):
        axes = {int(axis) for axis in layer.detail.removeprefix("axes=").split(",")}
        kept = [axis for axis in (TO_NHWC if is_image(layer, shape) else range(len(shape))) if axis not in axes]
        return tuple(shape[axis] for axis in kept)
    return tensor_shape(layer, layer.output_shape)


@dataclass(frozen=True)
class Padding:
    """How TFLite pads a window.

    Attributes:
        scheme: of the operator, "SAME" or "VALID".
        before: rows above and columns left that a PAD operator adds first.
        after: rows below and columns right, likewise.
    """

    scheme: str
    before: tuple[int, int] = (0, 0)
    after: tuple[int, int] = (0, 0)

    @property
    def explicit(self) -> bool:
        """Whether a PAD operator is needed."""
        return any(self.before) or any(self.after)


def padding_of(layer: Layer) -> Padding:
    """The padding of a convolution or pool.

    TFLite knows two schemes: VALID, no padding, and SAME, which pads just as much as an output of
    ceil(input / stride) needs, the odd row below. Whatever is neither (such as padding 1 on all sides with stride 2
    over an even map) becomes a PAD operator and VALID. Padding that no window reaches does not count.
    """
    before = (layer.padding[0], layer.padding[1])
    declared = (layer.padding[2], layer.padding[3])
    needed, same = [], True
    for axis in (0, 1):
        size, output, stride = layer.input_shapes[0][2 + axis], layer.output_shape[2 + axis], layer.stride[axis]
        covered = (output - 1) * stride + layer.dilation[axis] * (layer.kernel[axis] - 1) + 1
        needed.append(max(covered - size - before[axis], 0))
        same &= output == -(-size // stride) and before[axis] == max(covered - size, 0) // 2
    if not any(before) and not any(needed):
        return Padding("VALID")
    if same:
        return Padding("SAME")
    # A pool that rounds its size up reaches beyond the padding that was declared.
    return Padding("VALID", before, (max(declared[0], needed[0]), max(declared[1], needed[1])))

"""From the layer's NCHW to TFLite's NHWC, and from explicit padding to SAME and VALID. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwloop.layers import Layer
from hwloop.runtimes.seeding import Array

Shape = tuple[int, ...]

TO_NHWC = (0, 2, 3, 1)
TO_NCHW = (0, 3, 1, 2)
_AXIS_IN_NHWC = {0: 0, 1: 3, 2: 1, 3: 2}

AS_WRITTEN = frozenset({"matmul", "transpose"})
"""Operations whose tensors of rank 4 are no images: attention heads, and whatever a network transposes on purpose."""


@dataclass(frozen=True)
class Layout:
    """How a layer's tensors of rank 4 lie in memory; all others lie as they are written.

    Attributes:
        channels_last: they are images, with their channels last.
    """

    channels_last: bool

    def is_image(self, shape: Shape) -> bool:
        """Whether a tensor of this shape has its channels last."""
        return self.channels_last and len(shape) == 4

    def shape(self, shape: Shape) -> Shape:
        """A shape of the layer as TFLite has it."""
        return tuple(shape[axis] for axis in TO_NHWC) if self.is_image(shape) else shape

    def axis(self, axis: int, shape: Shape) -> int:
        """An axis of a tensor of this shape as TFLite counts it."""
        return _AXIS_IN_NHWC[axis] if self.is_image(shape) else axis

    def values(self, values: Array) -> Array:
        """Values of the layer in TFLite's order of memory."""
        return np.ascontiguousarray(values.transpose(TO_NHWC)) if self.is_image(values.shape) else values

    def output_shape(self, layer: Layer) -> Shape:
        """The shape of the layer's output in TFLite.

        A mean that drops axes of an image keeps the order of those that are left in NHWC.
        """
        shape = layer.input_shapes[0] if layer.input_shapes else ()
        if layer.op == "reduce_mean" and len(layer.output_shape) < len(shape):
            axes = {int(axis) for axis in layer.detail.removeprefix("axes=").split(",")}
            kept = [axis for axis in (TO_NHWC if self.is_image(shape) else range(len(shape))) if axis not in axes]
            return tuple(shape[axis] for axis in kept)
        return self.shape(layer.output_shape)


IMAGES = Layout(channels_last=True)
PLAIN = Layout(channels_last=False)


def layout_of(layer: Layer) -> Layout:
    """The layout of a layer on its own.

    Tensors of rank 4 are images, apart from those of `AS_WRITTEN` and of a softmax over the last axis (attention).
    """
    attention = layer.op in ("softmax", "log_softmax") and layer.detail == "axis=3"
    return PLAIN if layer.op in AS_WRITTEN or attention else IMAGES


def is_image(layer: Layer, shape: Shape) -> bool:
    """Whether a tensor of a layer on its own is an image, and so has its channels last in TFLite."""
    return layout_of(layer).is_image(shape)


def output_shape(layer: Layer) -> Shape:
    """The shape of the output of a layer on its own, in TFLite."""
    return layout_of(layer).output_shape(layer)


def aligned(shape: Shape, rank: int) -> Shape:
    """A shape with leading ones up to `rank`, as broadcasting reads it."""
    return (1,) * (rank - len(shape)) + shape


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
        covered = _reach(layer, axis)
        needed.append(max(covered - size - before[axis], 0))
        same &= output == -(-size // stride) and before[axis] == max(covered - size, 0) // 2
    if not any(before) and not any(needed):
        return Padding("VALID")
    if same:
        return Padding("SAME")
    # A pool that rounds its size up reaches beyond the padding that was declared.
    return Padding("VALID", before, (max(declared[0], needed[0]), max(declared[1], needed[1])))


def _reach(layer: Layer, axis: int) -> int:
    """Rows (or columns) from the first that a window reads to the last, padding included."""
    span = layer.dilation[axis] * (layer.kernel[axis] - 1) + 1
    return (layer.output_shape[2 + axis] - 1) * layer.stride[axis] + span


def averaging_padding(layer: Layer, *, counted: bool) -> tuple[Padding, Array | None]:
    """The padding of an average pool, and what its result is to be multiplied with.

    TFLite's SAME leaves the padding out of the mean, and a PAD operator's pixels are counted in it; where the layer
    means the other thing, a factor per output pixel (1, height, width, 1) puts it right.

    Args:
        layer: an average pool.
        counted: whether declared padding counts as pixels. What a rounded-up size reaches beyond it never counts.
    """
    padding = padding_of(layer)
    if padding.scheme == "SAME" and counted and any(layer.padding):
        before = (layer.padding[0], layer.padding[1])
        after = [_reach(layer, axis) - layer.input_shapes[0][2 + axis] - before[axis] for axis in (0, 1)]
        padding = Padding("VALID", before, (max(after[0], 0), max(after[1], 0)))
    if not padding.explicit:
        return padding, None
    rows, columns = (np.array(_counted(layer, axis, counted), np.float32) for axis in (0, 1))
    factor: Array = np.float32(layer.kernel[0] * layer.kernel[1]) / np.outer(rows, columns)
    return padding, None if (factor == 1).all() else factor[np.newaxis, :, :, np.newaxis]


def _counted(layer: Layer, axis: int, counted: bool) -> list[int]:
    """How many rows (or columns) count in the mean of each output row (or column)."""
    size, first = layer.input_shapes[0][2 + axis], -layer.padding[axis]
    low, high = (first, size + layer.padding[2 + axis]) if counted else (0, size)
    starts = [first + at * layer.stride[axis] for at in range(layer.output_shape[2 + axis])]
    return [min(start + layer.kernel[axis], high) - max(start, low) for start in starts]

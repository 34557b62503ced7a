"""One unit of work, as a runtime executes it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

from hwloop.errors import ModelError
from hwloop.layers.key import format_key, parse_key
from hwloop.layers.ops import ACTIVATIONS, ITEM_BYTES, OPS, channel_axis

Shape = tuple[int, ...]


@dataclass(frozen=True, order=True)
class Layer:
    """One unit as the runtime executes it, fusions included: a convolution with its bias, residual and activation.

    Two layers are equal, and have the same `key`, if and only if a runtime does the same work for them: names,
    weights, slopes and bounds are not part of a layer.

    Counting conventions:

    - `macs`: one multiply-accumulate is 1. Only convolutions and matrix products count; bias, fused residual,
      activation, normalisation, pooling and elementwise work count 0.
    - `parameters`: the constants that the layer holds *as executed*: a batch normalisation that was folded into a
      convolution has left a bias and nothing else (so a network has fewer than its torch module); a batch
      normalisation of its own holds four vectors.
    - `bytes_read`, `bytes_written`: every input, the residual, the weights and the output once, as if each passed
      through memory exactly once. Views (flatten, reshape) move nothing.

    Attributes:
        op: a name of `hwloop.layers.ops.OPS`.
        input_shapes: shape of every non-constant input apart from the fused residual; NCHW for images.
        output_shape: shape of the output.
        kernel: height, width.
        stride: down, right.
        padding: top, left, bottom, right.
        dilation: down, right.
        groups: of a convolution.
        bias: whether a bias vector is added (by convolution or linear).
        activation: fused activation, a name of `ACTIVATIONS`, or "".
        residual: a second tensor of `output_shape` is added before the activation.
        dtype: of weights and activations.
        detail: attributes that change the work and have no field of their own ("axis=1"); for an unsupported
            layer the operator, its attributes and the reason.
    """

    op: str
    input_shapes: tuple[Shape, ...]
    output_shape: Shape
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bias: bool = False
    activation: str = ""
    residual: bool = False
    dtype: str = "float32"
    detail: str = ""

    def __post_init__(self) -> None:
        """Refuse what no runtime could execute.

        Raises:
            ModelError: the fields contradict each other.
        """
        reason = _contradiction(self)
        if reason:
            raise ModelError(f"a {self.op} layer cannot be built: {reason}")

    @classmethod
    def parse(cls, key: str) -> Layer:
        """Read a layer from its `key`.

        Raises:
            ModelError: the text is not a key, or names an impossible layer.
        """
        return cls(**parse_key(key))

    @cached_property
    def key(self) -> str:
        """Canonical text, see `hwloop.layers.key`; `Layer.parse` is its inverse."""
        return format_key(self)

    @property
    def supported(self) -> bool:
        """Whether hwloop can build and measure this layer."""
        return self.op != "unsupported"

    @property
    def in_channels(self) -> int:
        """Channels (or features) of the data: of the first input, of all inputs together for a concat; 0 without.

        A linear layer reads the last axis, whatever the rank: on (batch, height, width, features) that is not the
        axis that other operations take for the channels.
        """
        if self.op == "linear":
            return self.input_shapes[0][-1]
        if self.op == "concat":
            return sum(channels_of(shape) for shape in self.input_shapes)
        return channels_of(self.input_shapes[0]) if self.input_shapes else 0

    @property
    def out_channels(self) -> int:
        """Channels (or features) of the output, of a linear layer its last axis; 0 for scalars and vectors."""
        return self.output_shape[-1] if self.op == "linear" else channels_of(self.output_shape)

    @property
    def depthwise(self) -> bool:
        """Whether every input channel is convolved on its own."""
        return self.op == "conv" and self.groups > 1 and self.groups == self.in_channels

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        if self.op == "conv":
            return math.prod(self.output_shape) * (self.in_channels // self.groups) * math.prod(self.kernel)
        if self.op == "linear":
            return math.prod(self.output_shape) * self.in_channels
        if self.op == "matmul":
            return math.prod(self.output_shape) * self.input_shapes[0][-1]
        return 0

    @property
    def parameters(self) -> int:
        """Constants that the layer holds as executed."""
        count = self.vectors * self.out_channels
        if self.op == "conv":
            count += self.out_channels * (self.in_channels // self.groups) * math.prod(self.kernel)
        if self.op == "linear":
            count += self.out_channels * self.in_channels
        return count

    @property
    def vectors(self) -> int:
        """How many vectors of one constant per output channel the layer holds: bias, statistics, slopes."""
        return VECTORS.get(self.op, 0) + VECTORS.get(self.activation, 0) + self.bias

    @property
    def weight_bytes(self) -> int:
        """Bytes of the constants."""
        return self.parameters * ITEM_BYTES[self.dtype]

    @property
    def bytes_read(self) -> int:
        """Bytes of inputs, residual and weights."""
        if OPS[self.op].view:
            return 0
        elements = sum(math.prod(shape) for shape in self.input_shapes)
        if self.residual:
            elements += math.prod(self.output_shape)
        return elements * ITEM_BYTES[self.dtype] + self.weight_bytes

    @property
    def bytes_written(self) -> int:
        """Bytes of the output."""
        return 0 if OPS[self.op].view else self.output_bytes

    @property
    def output_bytes(self) -> int:
        """Size of the output tensor, for views too."""
        return math.prod(self.output_shape) * ITEM_BYTES[self.dtype]

    def resized(self, in_channels: tuple[int, ...], out_channels: int) -> Layer:
        """The same geometry with other widths.

        Args:
            in_channels: channels (features) of each of `input_shapes`.
            out_channels: channels (features) of the output; of a flatten, the number of features.

        Returns:
            The layer; a depthwise convolution keeps one group per channel.

        Raises:
            ModelError: the layer cannot have these widths.
        """
        if len(in_channels) != len(self.input_shapes):
            raise ModelError(f"{self.key} has {len(self.input_shapes)} inputs, not {len(in_channels)}")
        if self.op == "linear":
            shapes = (*self.input_shapes[0][:-1], in_channels[0]), (*self.output_shape[:-1], out_channels)
            return replace(self, input_shapes=shapes[:1], output_shape=shapes[1])
        return replace(
            self,
            input_shapes=tuple(map(with_channels, self.input_shapes, in_channels)),
            output_shape=with_channels(self.output_shape, out_channels),
            groups=in_channels[0] if self.depthwise else self.groups,
        )


VECTORS = {"batch_norm": 4, "prelu": 1, "layer_norm": 2}
"""How many vectors of one value per channel an operation or fused activation holds besides a weight matrix."""

_GEOMETRY_DEFAULTS = ((1, 1), (1, 1), (0, 0, 0, 0), (1, 1))


def channels_of(shape: Shape) -> int:
    """The channels (features) of a tensor; 0 for scalars and vectors."""
    axis = channel_axis(shape)
    return 0 if axis is None else shape[axis]


def features_are_channels(layer: Layer) -> bool:
    """Whether the features that a linear layer reads and makes lie on the axis that holds the channels of a tensor."""
    rank = len(layer.output_shape)
    return channel_axis(layer.output_shape) == rank - 1


def with_channels(shape: Shape, channels: int) -> Shape:
    """The shape with another number of channels; scalars and vectors have none and stay."""
    axis = channel_axis(shape)
    return shape if axis is None else (*shape[:axis], channels, *shape[axis + 1 :])


def _contradiction(layer: Layer) -> str:
    """Why a layer cannot exist, or "" (each check is ordered so that the next can rely on it)."""
    op = OPS.get(layer.op)
    if op is None:
        return f"unknown operation, known are {', '.join(OPS)}"
    if layer.dtype not in ITEM_BYTES:
        return f"unknown data type {layer.dtype!r}, known are {', '.join(ITEM_BYTES)}"
    smallest = 1 if layer.supported else 0
    if any(size < smallest for shape in (*layer.input_shapes, layer.output_shape) for size in shape):
        return f"a size below {smallest} in {format_key(layer)}"
    fewest, most = op.inputs
    if not fewest <= len(layer.input_shapes) <= most:
        return f"{len(layer.input_shapes)} inputs"
    if layer.activation and (layer.activation not in ACTIVATIONS or not op.fuses):
        return f"cannot be fused with activation {layer.activation!r}"
    weighted = layer.op in ("conv", "linear")
    if (layer.bias or layer.residual) and not weighted:
        return "only convolutions and linear layers have a bias or a fused residual"
    if layer.groups != 1 and layer.op != "conv":
        return "only convolutions have groups"
    if op.geometry:
        return _bad_geometry(layer)
    if (layer.kernel, layer.stride, layer.padding, layer.dilation) != _GEOMETRY_DEFAULTS:
        return "only convolutions and pools have a kernel, stride, padding or dilation"
    if layer.op == "linear" and not (layer.input_shapes[0] and layer.output_shape):
        return "needs at least one axis"
    if layer.op == "linear" and layer.input_shapes[0][:-1] != layer.output_shape[:-1]:
        return f"all axes but the last must agree: {layer.input_shapes[0]} and {layer.output_shape}"
    return ""


def _bad_geometry(layer: Layer) -> str:
    shape, output = layer.input_shapes[0], layer.output_shape
    if len(shape) != 4 or len(output) != 4 or shape[0] != output[0]:
        return f"needs NCHW shapes with one batch size, got {shape} and {output}"
    if min(*layer.kernel, *layer.stride, *layer.dilation, layer.groups) < 1 or min(layer.padding) < 0:
        return "kernel, stride, dilation and groups must be at least 1, padding at least 0"
    if layer.op == "conv" and (shape[1] % layer.groups or output[1] % layer.groups):
        return f"{shape[1]} input and {output[1]} output channels are not multiples of {layer.groups} groups"
    if layer.op != "conv" and shape[1] != output[1]:
        return f"a pool keeps its channels, got {shape[1]} and {output[1]}"
    for axis in (0, 1):
        span = layer.dilation[axis] * (layer.kernel[axis] - 1) + 1
        room = shape[2 + axis] + layer.padding[axis] + layer.padding[axis + 2] - span
        floor = room // layer.stride[axis] + 1
        # A pool may round its output size up (ceil_mode); a convolution never does.
        ceil = floor if layer.op == "conv" else -(-room // layer.stride[axis]) + 1
        if room < 0 or not floor <= output[2 + axis] <= ceil:
            return f"a {shape[2]}x{shape[3]} map cannot become {output[2]}x{output[3]}: {format_key(layer)}"
    return ""

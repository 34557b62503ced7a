"""One layer as TFLite operators, in the operators that a converted network has for it.

The same functions write a layer on its own, with seeded values, and the layers of a whole network, with its own:
what a table says of a layer is said of what the network executes. Images are NHWC, and nothing is transposed. What
differs from the layer as it is written:

- RELU and RELU6 are fused where the operator has a field for them; all other activations, and those behind CONCAT and
  BATCH_MATMUL, are operators of their own, as TFLite's converter leaves them.
- Convolutions and linear layers always have a bias, of zeros if need be, as converted models have.
- A fused residual is an ADD behind the convolution, with the activation fused into that: TFLite has no other way.
- Padding that is neither SAME nor VALID is a PAD in front (PADV2 with the lowest number before a maximum); XNNPACK
  joins such a PAD with the convolution. An average pool that means other pixels than TFLite does gets a MUL.
- Batch normalisation is MUL and ADD; layer normalisation, hard-sigmoid, SiLU and clip to other bounds than RELU's are
  composed, see the functions below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hwloop.errors import ModelError
from hwloop.layers import ACTIVATIONS, Layer
from hwloop.runtimes.artifact import InputSpec
from hwloop.runtimes.details import cuts, details, integers
from hwloop.runtimes.seeding import Array, SeededValues
from hwloop.runtimes.tflite_activations import activation
from hwloop.runtimes.tflite_builder import BINARY, TfliteBuilder
from hwloop.runtimes.tflite_layout import aligned, averaging_padding, layout_of, padding_of
from hwloop.runtimes.tflite_values import Part, SeededLayerValues

FUSED = {"": "NONE", "relu": "RELU", "relu6": "RELU6"}
"""Activations that operators take in, by their name in the schema."""
EPSILON = 1e-5
HEIGHT_AND_WIDTH = (1, 2)
MAX_SLICE_RANK = 5


def layer_model(layer: Layer, seed: int, *, signature: bool = False) -> tuple[bytes, tuple[InputSpec, ...]]:
    """Build the model of a layer on its own.

    Args:
        layer: any supported float32 layer.
        seed: of weights and inputs.
        signature: see `TfliteBuilder.finish`.

    Returns:
        The flatbuffer and its inputs, images in NHWC; a fused residual is the last one.

    Raises:
        ModelError: the layer is unsupported, not float32, or TFLite has no operator for it.
        UserError: LiteRT is not installed.
    """
    check(layer)
    build, values = TfliteBuilder(), SeededValues(layer, seed)
    part = Part(layer, SeededLayerValues(values), layout_of(layer))
    rank = len(layer.output_shape) if layer.op in BINARY else 0
    shapes = {f"input_{at}": part.layout.shape(aligned(shape, rank)) for at, shape in enumerate(layer.input_shapes)}
    if layer.residual:
        shapes["residual"] = part.output_shape
    data = [build.input(values.input(name, shape).name, shape) for name, shape in shapes.items()]
    return build.finish(write(build, part, *data), signature=signature), tuple(values.inputs)


def check(layer: Layer) -> None:
    """See that a layer is one that can be written at all.

    Raises:
        ModelError: the layer is unsupported, or not float32.
    """
    if not layer.supported:
        raise ModelError(f"litert cannot measure an unsupported layer: {layer.detail}")
    if layer.dtype != "float32":
        raise ModelError(f"hwloop measures float32 layers in litert, not {layer.dtype}: {layer.key}")


def write(build: TfliteBuilder, part: Part, *data: int) -> int:
    """Write a layer.

    Args:
        build: the model that it becomes part of.
        part: the layer, its constants and its layout.
        *data: its inputs in that layout, the fused residual last.

    Returns:
        The tensor of its result.

    Raises:
        ModelError: TFLite has no operator for it.
    """
    layer = part.layer
    data, residual = (data[:-1], data[-1]) if layer.residual else (data, None)
    if layer.op in ACTIVATIONS:
        result = activation(build, part, layer.op, *data)
    else:
        result = _BUILDERS[layer.op](build, part, *data)
    if residual is not None:
        result = build.binary("add", result, residual, _fused(part))
    if layer.activation and not _fuses(layer):
        result = activation(build, part, layer.activation, result)
    return result


def _fuses(layer: Layer) -> bool:
    return layer.activation in FUSED and layer.op not in ("concat", "matmul")


def _fused(part: Part) -> str:
    """What the layer's last operator takes in."""
    return FUSED[part.layer.activation] if _fuses(part.layer) else "NONE"


def _fused_before_residual(part: Part) -> str:
    return "NONE" if part.layer.residual else _fused(part)


def _conv(build: TfliteBuilder, part: Part, data: int) -> int:
    layer = part.layer
    values, bias = part.values.conv()
    padding = padding_of(layer)
    window = {
        "padding": padding.scheme,
        "strideH": layer.stride[0],
        "strideW": layer.stride[1],
        "dilationHFactor": layer.dilation[0],
        "dilationWFactor": layer.dilation[1],
        "fusedActivationFunction": _fused_before_residual(part),
    }
    if padding.explicit:
        data = _surround(build, part, data, padding.before, padding.after)
    if layer.depthwise:
        # (out, 1, h, w) becomes (1, h, w, out)
        weight = build.constant(np.ascontiguousarray(values.transpose(1, 2, 3, 0)))
        operator, options = "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions"
        window["depthMultiplier"] = layer.out_channels // layer.in_channels
    else:
        weight = build.constant(np.ascontiguousarray(values.transpose(0, 2, 3, 1)))
        operator, options = "CONV_2D", "Conv2DOptions"
    return build.op(operator, (data, weight, _bias(build, part, bias)), part.output_shape, options, **window)


def _linear(build: TfliteBuilder, part: Part, data: int) -> int:
    values, bias = part.values.linear()
    return build.op(
        "FULLY_CONNECTED",
        (data, build.constant(values), _bias(build, part, bias)),
        part.output_shape,
        "FullyConnectedOptions",
        keepNumDims=len(part.layer.output_shape) != 2,
        fusedActivationFunction=_fused_before_residual(part),
    )


def _bias(build: TfliteBuilder, part: Part, values: Array | None) -> int:
    return build.constant(np.zeros(part.output_shape[-1], np.float32) if values is None else values)


def _surround(build: TfliteBuilder, part: Part, data: int, before: tuple[int, int], after: tuple[int, int]) -> int:
    """Pad height and width, with zeros, or before a maximum with the lowest number."""
    pads = build.constant(np.array([(0, 0), *zip(before, after, strict=True), (0, 0)], np.int32))
    batch, height, width, channels = build.shape(data)
    shape = (batch, height + before[0] + after[0], width + before[1] + after[1], channels)
    if part.layer.op == "max_pool":
        lowest = build.constant(np.array([np.finfo(np.float32).min]))
        return build.op("PADV2", (data, pads, lowest), shape, "PadV2Options")
    return build.op("PAD", (data, pads), shape, "PadOptions")


def _pool(build: TfliteBuilder, part: Part, data: int) -> int:
    layer = part.layer
    if layer.dilation != (1, 1):
        raise ModelError(f"TFLite has no dilated pool: {layer.key}")
    average = layer.op == "avg_pool"
    padding, factor = averaging_padding(layer, counted=part.counts_padding) if average else (padding_of(layer), None)
    if padding.explicit:
        data = _surround(build, part, data, padding.before, padding.after)
    result = build.op(
        "AVERAGE_POOL_2D" if average else "MAX_POOL_2D",
        (data,),
        part.output_shape,
        "Pool2DOptions",
        padding=padding.scheme,
        strideH=layer.stride[0],
        strideW=layer.stride[1],
        filterHeight=layer.kernel[0],
        filterWidth=layer.kernel[1],
        fusedActivationFunction=_fused(part) if factor is None else "NONE",
    )
    return result if factor is None else build.binary("mul", result, build.constant(factor), _fused(part))


def _global_pool(build: TfliteBuilder, part: Part, data: int) -> int:
    return _reduce(build, part, "MEAN" if part.layer.op == "global_avg_pool" else "REDUCE_MAX", data, HEIGHT_AND_WIDTH)


def _reduce_mean(build: TfliteBuilder, part: Part, data: int) -> int:
    layer = part.layer
    axes = [part.layout.axis(axis, layer.input_shapes[0]) for axis in integers(details(layer)["axes"])]
    return _reduce(build, part, "MEAN", data, tuple(sorted(axes)))


def _reduce(build: TfliteBuilder, part: Part, operator: str, data: int, axes: tuple[int, ...]) -> int:
    shape = part.output_shape
    keep = len(shape) == len(build.shape(data))
    return build.op(operator, (data, build.integers(*axes)), shape, "ReducerOptions", keepDims=keep)


def _elementwise(build: TfliteBuilder, part: Part, *data: int) -> int:
    layer = part.layer
    if len(data) == 2:
        return build.binary(layer.op, data[0], data[1], _fused(part))
    values, first = part.values.operand()
    if values.shape:
        values = part.layout.values(values.reshape(aligned(values.shape, len(layer.output_shape))))
    constant = build.constant(values)
    operands = (constant, data[0]) if first else (data[0], constant)
    return build.binary(layer.op, operands[0], operands[1], _fused(part))


def _concat(build: TfliteBuilder, part: Part, *data: int) -> int:
    layer = part.layer
    axis = part.layout.axis(int(details(layer)["axis"]), layer.output_shape)
    operands = tuple(
        data[one] if isinstance(one, int) else build.constant(part.layout.values(one)) for one in part.values.joined()
    )
    return build.op("CONCATENATION", operands, part.output_shape, "ConcatenationOptions", axis=axis)


def _batch_norm(build: TfliteBuilder, part: Part, data: int) -> int:
    """MUL and ADD with one constant per channel."""
    scale, shift, mean, variance = part.values.batch_norm()
    epsilon = np.float32(part.values.attribute("epsilon", EPSILON))
    factor = (scale / np.sqrt(variance + epsilon)).astype(np.float32)
    scaled = build.binary("mul", data, build.constant(factor))
    return build.binary("add", scaled, build.constant((shift - mean * factor).astype(np.float32)), _fused(part))


def _layer_norm(build: TfliteBuilder, part: Part, data: int) -> int:
    """MEAN, SQUARED_DIFFERENCE, MEAN, ADD, RSQRT, SUB, and three to scale and shift: TFLite has no operator for it."""
    shape = build.shape(data)
    one = (*shape[:-1], 1)
    axis = build.integers(len(shape) - 1)
    gain, shift = (build.constant(values) for values in part.values.layer_norm())
    mean = build.op("MEAN", (data, axis), one, "ReducerOptions", keepDims=True)
    squares = build.op("SQUARED_DIFFERENCE", (data, mean), shape, "SquaredDifferenceOptions")
    variance = build.op("MEAN", (squares, axis), one, "ReducerOptions", keepDims=True)
    epsilon = build.scalar(part.values.attribute("epsilon", EPSILON))
    root = build.op("RSQRT", (build.binary("add", variance, epsilon),), one)
    normal = build.binary("mul", build.binary("sub", data, mean), root)
    return build.binary("add", build.binary("mul", normal, gain), shift)


def _softmax(build: TfliteBuilder, part: Part, data: int) -> int:
    layer, shape = part.layer, part.output_shape
    if part.layout.axis(int(details(layer)["axis"]), layer.output_shape) != len(shape) - 1:
        raise ModelError(f"TFLite has a softmax over the last axis only: {layer.key}")
    if layer.op == "log_softmax":
        return build.op("LOG_SOFTMAX", (data,), shape, "LogSoftmaxOptions")
    return build.op("SOFTMAX", (data,), shape, "SoftmaxOptions", beta=1.0)


def _reshape(build: TfliteBuilder, part: Part, data: int) -> int:
    shape = part.output_shape
    return build.op("RESHAPE", (data, build.integers(*shape)), shape, "ReshapeOptions", newShape=list(shape))


def _transpose(build: TfliteBuilder, part: Part, data: int) -> int:
    order = build.integers(*integers(details(part.layer)["perm"]))
    return build.op("TRANSPOSE", (data, order), part.output_shape, "TransposeOptions")


def _slice(build: TfliteBuilder, part: Part, data: int) -> int:
    layer = part.layer
    shape = build.shape(data)
    if len(shape) > MAX_SLICE_RANK:
        raise ModelError(f"TFLite slices tensors of rank {MAX_SLICE_RANK} at most: {layer.key}")
    begin, end, steps, end_mask = [0] * len(shape), list(shape), [1] * len(shape), 0
    for cut in cuts(layer):
        axis = part.layout.axis(cut.axis, layer.input_shapes[0])
        begin[axis], end[axis], steps[axis] = cut.start, cut.end, cut.step
        end_mask |= (1 << axis) if cut.end < 0 else 0  # -1 would mean the last element
    bounds = [build.integers(*one) for one in (begin, end, steps)]
    return build.op("STRIDED_SLICE", (data, *bounds), part.output_shape, "StridedSliceOptions", endMask=end_mask)


def _pad(build: TfliteBuilder, part: Part, data: int) -> int:
    layer = part.layer
    found = details(layer)
    rank = len(layer.output_shape)
    declared = integers(found["pads"])
    if min(declared) < 0:
        raise ModelError(f"TFLite has no negative padding: {layer.key}")
    pads = [(0, 0)] * rank
    for axis, pair in enumerate(zip(declared[:rank], declared[rank:], strict=True)):
        pads[part.layout.axis(axis, layer.input_shapes[0])] = pair
    operands, shape = (data, build.constant(np.array(pads, np.int32))), part.output_shape
    if found["mode"] == "reflect":
        return build.op("MIRROR_PAD", operands, shape, "MirrorPadOptions", mode=0)
    if found["mode"] != "constant":
        raise ModelError(f"TFLite has no padding of mode {found['mode']}: {layer.key}")
    fill = part.values.fill()
    if fill == 0:
        return build.op("PAD", operands, shape, "PadOptions")
    return build.op("PADV2", (*operands, build.constant(np.array([fill], np.float32))), shape, "PadV2Options")


RESIZE: Mapping[str, Mapping[str, Any]] = {
    "asymmetric": {},
    "half_pixel": {"halfPixelCenters": True},
    "pytorch_half_pixel": {"halfPixelCenters": True},
    "align_corners": {"alignCorners": True},
}
"""ONNX's coordinate transformations as TFLite's options."""


def _resize(build: TfliteBuilder, part: Part, data: int) -> int:
    shape = part.output_shape
    if len(shape) != 4:
        raise ModelError(f"TFLite resizes images only: {part.layer.key}")
    nearest = details(part.layer)["mode"] == "nearest"
    coordinates = part.values.attribute("coordinate_transformation_mode", "asymmetric" if nearest else "half_pixel")
    rounding = part.values.attribute("nearest_mode", "floor")
    fits = coordinates in RESIZE and (not nearest or (coordinates == "asymmetric" and rounding == "floor"))
    if not fits:
        raise ModelError(f"TFLite does not resize with {coordinates} and {rounding}: {part.layer.key}")
    operands = (data, build.integers(*(shape[axis] for axis in HEIGHT_AND_WIDTH)))
    operator, options = ("NEAREST_NEIGHBOR", "NearestNeighbor") if nearest else ("BILINEAR", "Bilinear")
    return build.op(f"RESIZE_{operator}", operands, shape, f"Resize{options}Options", **RESIZE[coordinates])


def _matmul(build: TfliteBuilder, part: Part, *data: int) -> int:
    return build.op("BATCH_MATMUL", data, part.output_shape, "BatchMatMulOptions")


_BUILDERS: Mapping[str, Callable[..., int]] = {
    "conv": _conv,
    "linear": _linear,
    "matmul": _matmul,
    "max_pool": _pool,
    "avg_pool": _pool,
    "global_avg_pool": _global_pool,
    "global_max_pool": _global_pool,
    **dict.fromkeys(BINARY, _elementwise),
    "concat": _concat,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "softmax": _softmax,
    "log_softmax": _softmax,
    "reduce_mean": _reduce_mean,
    "flatten": _reshape,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "pad": _pad,
    "resize": _resize,
}

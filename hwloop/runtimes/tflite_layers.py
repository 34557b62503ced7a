"""One layer as a small TFLite model, in the operators that a converted network has for it.

Images are NHWC, and nothing is transposed. What differs from the layer as it is written:

- RELU and RELU6 are fused where the operator has a field for them; all other activations, and those behind CONCAT and
  BATCH_MATMUL, are operators of their own, as TFLite's converter leaves them.
- Convolutions and linear layers always have a bias, of zeros if need be, as converted models have.
- A fused residual is an ADD behind the convolution, with the activation fused into that: TFLite has no other way.
- Padding that is neither SAME nor VALID is a PAD in front (PADV2 with the lowest number before a maximum); XNNPACK
  joins such a PAD with the convolution. An average pool counts the pixels of a PAD, as torch does by default.
- Batch normalisation is MUL and ADD; layer normalisation, hard-sigmoid, SiLU and clip to other bounds than RELU's are
  composed, see the functions below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from hwloop.errors import ModelError
from hwloop.layers import ACTIVATIONS, Layer
from hwloop.runtimes.artifact import InputSpec
from hwloop.runtimes.details import cuts, details, integers, operand
from hwloop.runtimes.seeding import Array
from hwloop.runtimes.tflite_activations import activation
from hwloop.runtimes.tflite_builder import BINARY, TfliteBuilder
from hwloop.runtimes.tflite_layout import aligned, output_shape, padding_of, tensor_axis, tensor_shape, tensor_values

FUSED = {"": "NONE", "relu": "RELU", "relu6": "RELU6"}
"""Activations that operators take in, by their name in the schema."""
EPSILON = 1e-5
HEIGHT_AND_WIDTH = (1, 2)
MAX_SLICE_RANK = 5


def layer_model(layer: Layer, seed: int) -> tuple[bytes, tuple[InputSpec, ...]]:
    """Build the model of a layer.

    Args:
        layer: any supported float32 layer.
        seed: of weights and inputs.

    Returns:
        The flatbuffer and its inputs, images in NHWC; a fused residual is the last one.

    Raises:
        ModelError: the layer is unsupported, not float32, or TFLite has no operator for it.
        UserError: LiteRT is not installed.
    """
    if not layer.supported:
        raise ModelError(f"litert cannot measure an unsupported layer: {layer.detail}")
    if layer.dtype != "float32":
        raise ModelError(f"hwloop measures float32 layers in litert, not {layer.dtype}: {layer.key}")
    build = TfliteBuilder(layer, seed)
    rank = len(layer.output_shape) if layer.op in BINARY else 0
    inputs = [
        build.input(f"input_{index}", tensor_shape(layer, aligned(shape, rank)))
        for index, shape in enumerate(layer.input_shapes)
    ]
    result = activation(build, layer.op, *inputs) if layer.op in ACTIVATIONS else _BUILDERS[layer.op](build, *inputs)
    if layer.activation and not _fuses(layer):
        result = activation(build, layer.activation, result)
    return build.finish(result), tuple(build.values.inputs)


def _fuses(layer: Layer) -> bool:
    return layer.activation in FUSED and layer.op not in ("concat", "matmul")


def _fused(build: TfliteBuilder) -> str:
    """What the layer's last operator takes in."""
    return FUSED[build.layer.activation] if _fuses(build.layer) else "NONE"


def _conv(build: TfliteBuilder, data: int) -> int:
    layer = build.layer
    values, bias = build.values.conv()
    padding = padding_of(layer)
    window = {
        "padding": padding.scheme,
        "strideH": layer.stride[0],
        "strideW": layer.stride[1],
        "dilationHFactor": layer.dilation[0],
        "dilationWFactor": layer.dilation[1],
        "fusedActivationFunction": "NONE" if layer.residual else _fused(build),
    }
    if padding.explicit:
        data = _surround(build, data, padding.before, padding.after)
    if layer.depthwise:
        # (out, 1, h, w) becomes (1, h, w, out)
        weight = build.constant(np.ascontiguousarray(values.transpose(1, 2, 3, 0)))
        operator, options = "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions"
        window["depthMultiplier"] = layer.out_channels // layer.in_channels
    else:
        weight = build.constant(np.ascontiguousarray(values.transpose(0, 2, 3, 1)))
        operator, options = "CONV_2D", "Conv2DOptions"
    operands = (data, weight, _bias(build, bias))
    return _add_residual(build, build.op(operator, operands, output_shape(layer), options, **window))


def _linear(build: TfliteBuilder, data: int) -> int:
    layer = build.layer
    values, bias = build.values.linear()
    result = build.op(
        "FULLY_CONNECTED",
        (data, build.constant(values), _bias(build, bias)),
        output_shape(layer),
        "FullyConnectedOptions",
        keepNumDims=len(layer.output_shape) != 2,
        fusedActivationFunction="NONE" if layer.residual else _fused(build),
    )
    return _add_residual(build, result)


def _bias(build: TfliteBuilder, values: Array | None) -> int:
    return build.constant(np.zeros(build.layer.out_channels, np.float32) if values is None else values)


def _add_residual(build: TfliteBuilder, result: int) -> int:
    if not build.layer.residual:
        return result
    return build.binary("add", result, build.input("residual", output_shape(build.layer)), _fused(build))


def _surround(build: TfliteBuilder, data: int, before: tuple[int, int], after: tuple[int, int]) -> int:
    """Pad height and width, with zeros, or before a maximum with the lowest number."""
    pads = build.constant(np.array([(0, 0), *zip(before, after, strict=True), (0, 0)], np.int32))
    batch, height, width, channels = build.shape(data)
    shape = (batch, height + before[0] + after[0], width + before[1] + after[1], channels)
    if build.layer.op == "max_pool":
        lowest = build.constant(np.array([np.finfo(np.float32).min]))
        return build.op("PADV2", (data, pads, lowest), shape, "PadV2Options")
    return build.op("PAD", (data, pads), shape, "PadOptions")


def _pool(build: TfliteBuilder, data: int) -> int:
    layer = build.layer
    if layer.dilation != (1, 1):
        raise ModelError(f"TFLite has no dilated pool: {layer.key}")
    padding = padding_of(layer)
    if padding.explicit:
        data = _surround(build, data, padding.before, padding.after)
    return build.op(
        "MAX_POOL_2D" if layer.op == "max_pool" else "AVERAGE_POOL_2D",
        (data,),
        output_shape(layer),
        "Pool2DOptions",
        padding=padding.scheme,
        strideH=layer.stride[0],
        strideW=layer.stride[1],
        filterHeight=layer.kernel[0],
        filterWidth=layer.kernel[1],
        fusedActivationFunction=_fused(build),
    )


def _global_pool(build: TfliteBuilder, data: int) -> int:
    return _reduce(build, "MEAN" if build.layer.op == "global_avg_pool" else "REDUCE_MAX", data, HEIGHT_AND_WIDTH)


def _reduce_mean(build: TfliteBuilder, data: int) -> int:
    layer = build.layer
    axes = [tensor_axis(layer, axis, layer.input_shapes[0]) for axis in integers(details(layer)["axes"])]
    return _reduce(build, "MEAN", data, tuple(sorted(axes)))


def _reduce(build: TfliteBuilder, operator: str, data: int, axes: tuple[int, ...]) -> int:
    shape = output_shape(build.layer)
    keep = len(shape) == len(build.shape(data))
    return build.op(operator, (data, build.integers(*axes)), shape, "ReducerOptions", keepDims=keep)


def _elementwise(build: TfliteBuilder, *data: int) -> int:
    layer = build.layer
    if len(data) == 2:
        return build.binary(layer.op, *data, _fused(build))
    values = operand(layer)
    if values.shape:
        values = tensor_values(layer, values.reshape(aligned(values.shape, len(layer.output_shape))))
    return build.binary(layer.op, data[0], build.constant(values), _fused(build))


def _concat(build: TfliteBuilder, *data: int) -> int:
    layer = build.layer
    axis = tensor_axis(layer, int(details(layer)["axis"]), layer.output_shape)
    return build.op("CONCATENATION", data, output_shape(layer), "ConcatenationOptions", axis=axis)


def _batch_norm(build: TfliteBuilder, data: int) -> int:
    """MUL and ADD with one constant per channel."""
    scale, shift, mean, variance = build.values.batch_norm()
    factor = (scale / np.sqrt(variance + np.float32(EPSILON))).astype(np.float32)
    scaled = build.binary("mul", data, build.constant(factor))
    return build.binary("add", scaled, build.constant((shift - mean * factor).astype(np.float32)), _fused(build))


def _layer_norm(build: TfliteBuilder, data: int) -> int:
    """MEAN, SQUARED_DIFFERENCE, MEAN, ADD, RSQRT, SUB, and three to scale and shift: TFLite has no operator for it."""
    shape = build.shape(data)
    one = (*shape[:-1], 1)
    axis = build.integers(len(shape) - 1)
    gain, shift = (build.constant(build.values.vector(build.layer.out_channels)) for _ in range(2))
    mean = build.op("MEAN", (data, axis), one, "ReducerOptions", keepDims=True)
    squares = build.op("SQUARED_DIFFERENCE", (data, mean), shape, "SquaredDifferenceOptions")
    variance = build.op("MEAN", (squares, axis), one, "ReducerOptions", keepDims=True)
    root = build.op("RSQRT", (build.binary("add", variance, build.scalar(EPSILON)),), one)
    normal = build.binary("mul", build.binary("sub", data, mean), root)
    return build.binary("add", build.binary("mul", normal, gain), shift)


def _softmax(build: TfliteBuilder, data: int) -> int:
    layer = build.layer
    shape = output_shape(layer)
    if tensor_axis(layer, int(details(layer)["axis"]), layer.output_shape) != len(shape) - 1:
        raise ModelError(f"TFLite has a softmax over the last axis only: {layer.key}")
    if layer.op == "log_softmax":
        return build.op("LOG_SOFTMAX", (data,), shape, "LogSoftmaxOptions")
    return build.op("SOFTMAX", (data,), shape, "SoftmaxOptions", beta=1.0)


def _reshape(build: TfliteBuilder, data: int) -> int:
    shape = output_shape(build.layer)
    return build.op("RESHAPE", (data, build.integers(*shape)), shape, "ReshapeOptions", newShape=list(shape))


def _transpose(build: TfliteBuilder, data: int) -> int:
    order = build.integers(*integers(details(build.layer)["perm"]))
    return build.op("TRANSPOSE", (data, order), output_shape(build.layer), "TransposeOptions")


def _slice(build: TfliteBuilder, data: int) -> int:
    layer = build.layer
    shape = build.shape(data)
    if len(shape) > MAX_SLICE_RANK:
        raise ModelError(f"TFLite slices tensors of rank {MAX_SLICE_RANK} at most: {layer.key}")
    begin, end, steps, end_mask = [0] * len(shape), list(shape), [1] * len(shape), 0
    for cut in cuts(layer):
        axis = tensor_axis(layer, cut.axis, layer.input_shapes[0])
        begin[axis], end[axis], steps[axis] = cut.start, cut.end, cut.step
        end_mask |= (1 << axis) if cut.end < 0 else 0  # -1 would mean the last element
    bounds = [build.integers(*one) for one in (begin, end, steps)]
    return build.op("STRIDED_SLICE", (data, *bounds), output_shape(layer), "StridedSliceOptions", endMask=end_mask)


def _pad(build: TfliteBuilder, data: int) -> int:
    layer = build.layer
    found = details(layer)
    rank = len(layer.output_shape)
    declared = integers(found["pads"])
    if min(declared) < 0:
        raise ModelError(f"TFLite has no negative padding: {layer.key}")
    pads = [(0, 0)] * rank
    for axis, pair in enumerate(zip(declared[:rank], declared[rank:], strict=True)):
        pads[tensor_axis(layer, axis, layer.input_shapes[0])] = pair
    operands = (data, build.constant(np.array(pads, np.int32)))
    if found["mode"] == "constant":
        return build.op("PAD", operands, output_shape(layer), "PadOptions")
    if found["mode"] == "reflect":
        return build.op("MIRROR_PAD", operands, output_shape(layer), "MirrorPadOptions", mode=0)
    raise ModelError(f"TFLite has no padding of mode {found['mode']}: {layer.key}")


def _resize(build: TfliteBuilder, data: int) -> int:
    shape = output_shape(build.layer)
    if len(shape) != 4:
        raise ModelError(f"TFLite resizes images only: {build.layer.key}")
    operands = (data, build.integers(*(shape[axis] for axis in HEIGHT_AND_WIDTH)))
    if details(build.layer)["mode"] == "nearest":
        return build.op("RESIZE_NEAREST_NEIGHBOR", operands, shape, "ResizeNearestNeighborOptions")
    return build.op("RESIZE_BILINEAR", operands, shape, "ResizeBilinearOptions", halfPixelCenters=True)


def _matmul(build: TfliteBuilder, *data: int) -> int:
    return build.op("BATCH_MATMUL", data, output_shape(build.layer), "BatchMatMulOptions")


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

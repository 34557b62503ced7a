"""One layer as a small ONNX model that onnxruntime executes as it executes the layer inside a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hwloop.errors import ModelError
from hwloop.extraction.operators import COUNTED_PADDING
from hwloop.layers import ACTIVATIONS, Layer
from hwloop.runtimes.artifact import InputSpec
from hwloop.runtimes.details import concat_operands, cuts, details, integers, operand
from hwloop.runtimes.onnx_builder import OPSET, ModelBuilder

BLOCK = 8
"""Channels per block of onnxruntime's blocked layout with AVX2."""


def layer_model(layer: Layer, seed: int) -> tuple[bytes, tuple[InputSpec, ...]]:
    """Build the model of a layer.

    Args:
        layer: any supported float32 layer.
        seed: of weights and inputs.

    Returns:
        The serialised ONNX model and its inputs; a fused residual is the last one.

    Raises:
        ModelError: the layer is unsupported, or not float32.
    """
    if not layer.supported:
        raise ModelError(f"onnxruntime cannot measure an unsupported layer: {layer.detail}")
    if layer.dtype != "float32":
        raise ModelError(f"hwloop measures float32 layers in onnxruntime, not {layer.dtype}: {layer.key}")
    build = ModelBuilder(layer, seed)
    inputs = [build.input(f"input_{index}", shape) for index, shape in enumerate(layer.input_shapes)]
    result = _activation(build, layer.op, *inputs) if layer.op in ACTIVATIONS else _BUILDERS[layer.op](build, *inputs)
    if layer.activation:
        result = _activation(build, layer.activation, result)
        if layer.activation == "hard_swish":
            result = _anchor(build, result)  # as the model's result it would not be fused
    data = build.finish(result)
    return data, tuple(build.values.inputs)


def _conv(build: ModelBuilder, data: str) -> str:
    layer = build.layer
    weight, bias = build.values.conv()
    operands = [data, build.constant(weight)]
    if bias is not None:
        operands.append(build.constant(bias))
    residual = _anchor(build, build.input("residual", layer.output_shape)) if layer.residual else ""
    result = build.node("Conv", *operands, group=layer.groups, dilations=layer.dilation, **_window(layer))
    return build.node("Add", result, residual) if residual else result


def _anchor(build: ModelBuilder, data: str) -> str:
    """Pass a tensor through a pool of one pixel, which computes in onnxruntime's blocked layout.

    Inside a network a residual comes from a convolution in that layout, and only such a one is fused. Where the
    channels do not fill blocks there is no such layout, and nothing is needed.
    """
    return build.node("MaxPool", data, kernel_shape=[1, 1]) if build.layer.out_channels % BLOCK == 0 else data


def _linear(build: ModelBuilder, data: str) -> str:
    layer = build.layer
    weight, bias = build.values.linear()
    matrix = len(layer.output_shape) == 2
    if matrix and layer.bias != layer.residual:
        addend = build.input("residual", layer.output_shape) if bias is None else build.constant(bias)
        return build.node("Gemm", data, build.constant(weight), addend, transB=1)
    result = build.node("MatMul", data, build.constant(np.ascontiguousarray(weight.T)))
    if bias is not None:
        result = build.node("Add", result, build.constant(bias))
    return build.node("Add", result, build.input("residual", layer.output_shape)) if layer.residual else result


def _pool(build: ModelBuilder, data: str) -> str:
    layer = build.layer
    attributes = _window(layer) | {"ceil_mode": int(_rounds_up(layer))}
    if layer.op == "max_pool":
        return build.node("MaxPool", data, dilations=layer.dilation, **attributes)
    if layer.dilation != (1, 1):
        raise ModelError(f"onnxruntime has no dilated average pool at opset {OPSET}: {layer.key}")
    return build.node("AveragePool", data, count_include_pad=int(layer.detail == COUNTED_PADDING), **attributes)


def _window(layer: Layer) -> dict[str, Any]:
    return {"kernel_shape": layer.kernel, "strides": layer.stride, "pads": layer.padding}


def _rounds_up(layer: Layer) -> bool:
    """Whether the output is larger than rounding down would make it."""
    for axis in (0, 1):
        span = layer.dilation[axis] * (layer.kernel[axis] - 1) + 1
        room = layer.input_shapes[0][2 + axis] + layer.padding[axis] + layer.padding[axis + 2] - span
        if layer.output_shape[2 + axis] > room // layer.stride[axis] + 1:
            return True
    return False


def _global_pool(build: ModelBuilder, data: str) -> str:
    layer = build.layer
    if layer.detail == "reduce":
        return build.node("ReduceMean", data, axes=[2, 3], keepdims=int(len(layer.output_shape) == 4))
    return build.node("GlobalAveragePool" if layer.op == "global_avg_pool" else "GlobalMaxPool", data)


def _elementwise(build: ModelBuilder, *data: str) -> str:
    layer = build.layer
    op = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div"}[layer.op]
    return build.node(op, *data) if len(data) == 2 else build.node(op, *data, build.constant(operand(layer)))


def _concat(build: ModelBuilder, *data: str) -> str:
    axis, operands = concat_operands(build.layer)
    names = (data[one] if isinstance(one, int) else build.constant(one) for one in operands)
    return build.node("Concat", *names, axis=axis)


def _batch_norm(build: ModelBuilder, data: str) -> str:
    return build.node("BatchNormalization", data, *(build.constant(one) for one in build.values.batch_norm()))


def _layer_norm(build: ModelBuilder, data: str) -> str:
    features = build.layer.out_channels
    return build.node("LayerNormalization", data, build.vector(features), build.vector(features), axis=-1)


def _softmax(build: ModelBuilder, data: str) -> str:
    op = "Softmax" if build.layer.op == "softmax" else "LogSoftmax"
    return build.node(op, data, axis=int(details(build.layer)["axis"]))


def _reduce_mean(build: ModelBuilder, data: str) -> str:
    layer = build.layer
    keep = len(layer.output_shape) == len(layer.input_shapes[0])
    return build.node("ReduceMean", data, axes=integers(details(layer)["axes"]), keepdims=int(keep))


def _reshape(build: ModelBuilder, data: str) -> str:
    return build.node("Reshape", data, build.constant(np.array(build.layer.output_shape, np.int64)))


def _flatten(build: ModelBuilder, data: str) -> str:
    return build.node("Flatten", data, axis=1)


def _transpose(build: ModelBuilder, data: str) -> str:
    return build.node("Transpose", data, perm=integers(details(build.layer)["perm"]))


def _slice(build: ModelBuilder, data: str) -> str:
    kept = cuts(build.layer)
    ends = [one.end if one.end >= 0 else -build.layer.input_shapes[0][one.axis] - 1 for one in kept]
    starts, axes, steps = ([getattr(one, name) for one in kept] for name in ("start", "axis", "step"))
    return build.node("Slice", data, *(build.constant(np.array(one, np.int64)) for one in (starts, ends, axes, steps)))


def _pad(build: ModelBuilder, data: str) -> str:
    found = details(build.layer)
    pads = build.constant(np.array(integers(found["pads"]), np.int64))
    return build.node("Pad", data, pads, mode=found["mode"])


def _resize(build: ModelBuilder, data: str) -> str:
    sizes = build.constant(np.array(build.layer.output_shape, np.int64))
    mode = details(build.layer)["mode"]
    if mode == "nearest":
        attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    else:
        attributes = {"coordinate_transformation_mode": "pytorch_half_pixel"}
    return build.node("Resize", data, "", "", sizes, mode=mode, **attributes)


def _matmul(build: ModelBuilder, *data: str) -> str:
    return build.node("MatMul", *data)


def _activation(build: ModelBuilder, name: str, data: str) -> str:
    """An activation in the nodes that torch exports; onnxruntime joins those of silu and gelu."""
    if name in ("relu6", "clip"):
        low, high = (0.0, 6.0) if name == "relu6" else (-1.0, 2.0)
        bounds = (build.constant(np.array(bound, np.float32)) for bound in (low, high))
        return build.node("Clip", data, *bounds)
    if name == "prelu":
        shape = build.layer.output_shape
        slopes = (build.layer.out_channels, *(1 for _ in shape[2:])) if len(shape) != 3 else (shape[2],)
        return build.node("PRelu", data, build.constant(np.full(slopes, 0.25, np.float32)))
    if name == "silu":
        return build.node("Mul", data, build.node("Sigmoid", data))
    if name == "gelu":
        root, one, half = (build.constant(np.array(value, np.float32)) for value in (math.sqrt(2.0), 1.0, 0.5))
        gate = build.node("Add", build.node("Erf", build.node("Div", data, root)), one)
        return build.node("Mul", build.node("Mul", data, gate), half)
    if name == "hard_sigmoid":
        return build.node("HardSigmoid", data, alpha=1.0 / 6.0, beta=0.5)
    return build.node(_SIMPLE[name], data)


_SIMPLE = {
    "relu": "Relu",
    "leaky_relu": "LeakyRelu",
    "elu": "Elu",
    "selu": "Selu",
    "sigmoid": "Sigmoid",
    "hard_swish": "HardSwish",
    "tanh": "Tanh",
    "softplus": "Softplus",
}

_BUILDERS: Mapping[str, Callable[..., str]] = {
    "conv": _conv,
    "linear": _linear,
    "matmul": _matmul,
    "max_pool": _pool,
    "avg_pool": _pool,
    "global_avg_pool": _global_pool,
    "global_max_pool": _global_pool,
    "add": _elementwise,
    "sub": _elementwise,
    "mul": _elementwise,
    "div": _elementwise,
    "concat": _concat,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "softmax": _softmax,
    "log_softmax": _softmax,
    "reduce_mean": _reduce_mean,
    "flatten": _flatten,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "pad": _pad,
    "resize": _resize,
}

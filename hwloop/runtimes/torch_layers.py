"""One layer as the ATen calls that torch executes for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hwloop.errors import ModelError
from hwloop.extraction.operators import COUNTED_PADDING
from hwloop.layers import ACTIVATIONS, Layer
from hwloop.runtimes.artifact import InputSpec
from hwloop.runtimes.details import concat_operands, cuts, details, integers, operand
from hwloop.runtimes.torch_calls import LayerBuilder, Value

LOWEST = -3.0e38
"""Pads for a maximum: below every activation, and finite, since JSON has no infinity."""
EPSILON = 1e-5
PAD_MODES = {"reflect": "reflect", "edge": "replicate"}


def layer_calls(layer: Layer, seed: int, dtype: str, channels_last: bool) -> tuple[bytes, tuple[InputSpec, ...]]:
    """Write the calls of a layer.

    Args:
        layer: any supported float32 layer.
        seed: of weights and inputs.
        dtype: in which it is executed: "float32" or "bfloat16".
        channels_last: whether images and weights of convolutions are stored with the channels last.

    Returns:
        The file and its inputs; a fused residual is the last one.

    Raises:
        ModelError: the layer is unsupported, not float32, or torch has no operator for it.
    """
    if not layer.supported:
        raise ModelError(f"torch cannot measure an unsupported layer: {layer.detail}")
    if layer.dtype != "float32":
        raise ModelError(f"hwloop measures float32 layers in torch, not {layer.dtype}: {layer.key}")
    build = LayerBuilder(layer, seed, dtype, channels_last)
    inputs = [build.feed(f"input_{index}", shape) for index, shape in enumerate(layer.input_shapes)]
    residual = build.feed("residual", layer.output_shape) if layer.residual else None
    result = _activation(build, layer.op, *inputs) if layer.op in ACTIVATIONS else _BUILDERS[layer.op](build, *inputs)
    if residual is not None:
        result = build.call("add.Tensor", result, residual)
    if layer.activation:
        result = _activation(build, layer.activation, result)
    return build.finish(result), build.inputs


def _conv(build: LayerBuilder, data: Value) -> Value:
    layer = build.layer
    weight, bias = build.values.conv()
    top, left, bottom, right = layer.padding
    if (top, left) != (bottom, right):  # torch pads both sides alike, and by a call of its own otherwise
        data, top, left = build.call("constant_pad_nd.default", data, [left, right, top, bottom], 0.0), 0, 0
    constants = [build.constant(weight), None if bias is None else build.constant(bias)]
    stride, dilation = list(layer.stride), list(layer.dilation)
    return build.call("conv2d.default", data, *constants, stride, [top, left], dilation, layer.groups)


def _linear(build: LayerBuilder, data: Value) -> Value:
    weight, bias = build.values.linear()
    return build.call("linear.default", data, build.constant(weight), None if bias is None else build.constant(bias))


def _pool(build: LayerBuilder, data: Value) -> Value:
    layer = build.layer
    padding = _symmetric(layer)
    kernel, stride, rounds_up = list(layer.kernel), list(layer.stride), _rounds_up(layer, padding)
    if layer.op == "avg_pool":
        if layer.dilation != (1, 1) or padding is None:
            what = (
                "dilated average pool" if padding is not None else "average pool with less padding before than behind"
            )
            raise ModelError(f"torch has no {what}: {layer.key}")
        counted = layer.detail == COUNTED_PADDING
        return build.call("avg_pool2d.default", data, kernel, stride, padding, rounds_up, counted)
    if padding is None:
        top, left, bottom, right = layer.padding
        data, padding = build.call("constant_pad_nd.default", data, [left, right, top, bottom], LOWEST), [0, 0]
    return build.call("max_pool2d.default", data, kernel, stride, padding, list(layer.dilation), rounds_up)


def _symmetric(layer: Layer) -> list[int] | None:
    """The padding before, where as much behind gives the same windows; torch has no other, nor above half a kernel."""
    padding = list(layer.padding[:2])
    if any(pad > kernel // 2 for pad, kernel in zip(padding, layer.kernel, strict=True)):
        return None
    if layer.detail == COUNTED_PADDING and layer.padding[:2] != layer.padding[2:]:
        return None
    for axis in (0, 1):
        if padding[axis] < layer.padding[axis + 2] or layer.output_shape[2 + axis] not in _sizes(layer, axis, padding):
            return None
    return padding


def _sizes(layer: Layer, axis: int, padding: list[int]) -> tuple[int, int]:
    """What a pool's output measures when it is rounded down, and up."""
    span = layer.dilation[axis] * (layer.kernel[axis] - 1) + 1
    room = layer.input_shapes[0][2 + axis] + 2 * padding[axis] - span
    return room // layer.stride[axis] + 1, -(-room // layer.stride[axis]) + 1


def _rounds_up(layer: Layer, padding: list[int] | None) -> bool:
    if padding is None:
        return False
    return any(layer.output_shape[2 + axis] > _sizes(layer, axis, padding)[0] for axis in (0, 1))


def _global_pool(build: LayerBuilder, data: Value) -> Value:
    layer = build.layer
    if layer.op == "global_max_pool":
        return build.call("amax.default", data, [2, 3], True)
    if layer.detail == "reduce":
        return build.call("mean.dim", data, [2, 3], len(layer.output_shape) == 4)
    return build.call("adaptive_avg_pool2d.default", data, [1, 1])


def _elementwise(build: LayerBuilder, *data: Value) -> Value:
    layer = build.layer
    if len(data) == 2:
        return build.call(f"{layer.op}.Tensor", *data)
    values = operand(layer)
    return build.call(f"{layer.op}.Tensor", data[0], build.constant(values) if values.shape else float(values))


def _concat(build: LayerBuilder, *data: Value) -> Value:
    axis, operands = concat_operands(build.layer)
    return build.call(
        "cat.default", [data[one] if isinstance(one, int) else build.constant(one) for one in operands], axis
    )


def _batch_norm(build: LayerBuilder, data: Value) -> Value:
    constants = [build.constant(one) for one in build.values.batch_norm()]
    return build.call("batch_norm.default", data, *constants, False, 0.1, EPSILON, True)


def _layer_norm(build: LayerBuilder, data: Value) -> Value:
    features = build.layer.out_channels
    return build.call("layer_norm.default", data, [features], build.vector(features), build.vector(features), EPSILON)


def _softmax(build: LayerBuilder, data: Value) -> Value:
    return build.call(f"{build.layer.op}.int", data, int(details(build.layer)["axis"]))


def _reduce_mean(build: LayerBuilder, data: Value) -> Value:
    layer = build.layer
    keep = len(layer.output_shape) == len(layer.input_shapes[0])
    return build.call("mean.dim", data, integers(details(layer)["axes"]), keep)


def _reshape(build: LayerBuilder, data: Value) -> Value:
    return build.call("reshape.default", data, list(build.layer.output_shape))


def _transpose(build: LayerBuilder, data: Value) -> Value:
    return build.call("permute.default", data, integers(details(build.layer)["perm"]))


def _slice(build: LayerBuilder, data: Value) -> Value:
    shape = build.layer.input_shapes[0]
    for one in cuts(build.layer):
        start, end, step = one.start, one.end, one.step
        if step < 0:  # torch has no negative steps: turn the axis around first
            last = shape[one.axis] - 1
            data, start, end, step = build.call("flip.default", data, [one.axis]), last - start, last - end, -step
        data = build.call("slice.Tensor", data, one.axis, start, end, step)
    return data


def _pad(build: LayerBuilder, data: Value) -> Value:
    found = details(build.layer)
    pads, rank = integers(found["pads"]), len(build.layer.input_shapes[0])
    backwards = [pad for axis in reversed(range(rank)) for pad in (pads[axis], pads[axis + rank])]
    if found["mode"] == "constant":
        return build.call("constant_pad_nd.default", data, backwards, 0.0)
    while backwards[-2:] == [0, 0]:  # other modes take the last axes only
        del backwards[-2:]
    return build.call("pad.default", data, backwards, PAD_MODES[found["mode"]])


def _resize(build: LayerBuilder, data: Value) -> Value:
    size = list(build.layer.output_shape[2:])
    if details(build.layer)["mode"] == "nearest":
        return build.call("upsample_nearest2d.default", data, size)
    return build.call("upsample_bilinear2d.default", data, size, False)


def _matmul(build: LayerBuilder, *data: Value) -> Value:
    return build.call("matmul.default", *data)


def _activation(build: LayerBuilder, name: str, data: Value) -> Value:
    if name == "prelu":
        if len(build.layer.output_shape) == 3:
            raise ModelError(f"torch has no prelu with the features on the last of three axes: {build.layer.key}")
        return build.call("prelu.default", data, build.constant(np.full(build.layer.out_channels, 0.25)))
    operator, *arguments = _SIMPLE[name]
    return build.call(operator, data, *arguments)


_SIMPLE: Mapping[str, tuple[Any, ...]] = {
    "relu": ("relu.default",),
    "relu6": ("hardtanh.default", 0.0, 6.0),
    "clip": ("clamp.default", -1.0, 2.0),
    "leaky_relu": ("leaky_relu.default", 0.01),
    "elu": ("elu.default",),
    "selu": ("selu.default",),
    "sigmoid": ("sigmoid.default",),
    "hard_sigmoid": ("hardsigmoid.default",),
    "hard_swish": ("hardswish.default",),
    "silu": ("silu.default",),
    "tanh": ("tanh.default",),
    "gelu": ("gelu.default",),
    "softplus": ("softplus.default",),
}

_BUILDERS: Mapping[str, Callable[..., Value]] = {
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
    "flatten": _reshape,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "pad": _pad,
    "resize": _resize,
}

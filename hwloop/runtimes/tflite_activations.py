"""Activations as TFLite operators of their own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hwloop.errors import ModelError
from hwloop.runtimes.tflite_builder import TfliteBuilder
from hwloop.runtimes.tflite_values import Part

_SIMPLE: Mapping[str, tuple[str, str]] = {
    "relu": ("RELU", ""),
    "relu6": ("RELU6", ""),
    "sigmoid": ("LOGISTIC", ""),
    "tanh": ("TANH", ""),
    "hard_swish": ("HARD_SWISH", "HardSwishOptions"),
}


def activation(build: TfliteBuilder, part: Part, name: str, data: int) -> int:
    """An activation as an operator of its own, or as several where TFLite has none for it.

    Clip is MAXIMUM and MINIMUM, hard-sigmoid min(max(x + 3, 0), 6) / 6 (ADD with RELU6, MUL), SiLU LOGISTIC and MUL.

    Raises:
        ModelError: TFLite has no operator for it, or not with these attributes.
    """
    shape, attribute = build.shape(data), part.values.attribute
    if name in _SIMPLE:
        operator, options = _SIMPLE[name]
        return build.op(operator, (data,), shape, options)
    if name == "elu" and attribute("alpha", 1.0) == 1.0:
        return build.op("ELU", (data,), shape)
    if name == "gelu":
        tanh = attribute("approximate", "none") == "tanh"
        return build.op("GELU", (data,), shape, "GeluOptions", approximate=tanh)
    if name == "leaky_relu":
        return build.op("LEAKY_RELU", (data,), shape, "LeakyReluOptions", alpha=attribute("alpha", 0.01))
    if name == "prelu":
        slopes = part.values.slopes().reshape(*(1 for _ in shape[1:-1]), shape[-1])
        return build.op("PRELU", (data, build.constant(slopes)), shape)
    if name == "clip":
        return _clip(build, part, data)
    if name == "hard_sigmoid":
        return _hard_sigmoid(build, part, data)
    if name == "silu":
        return build.binary("mul", data, build.op("LOGISTIC", (data,), shape))
    raise ModelError(f"TFLite has no operator for {name}: {part.layer.key}")


def _clip(build: TfliteBuilder, part: Part, data: int) -> int:
    shape, (low, high) = build.shape(data), part.values.bounds()
    if low is not None:
        data = build.op("MAXIMUM", (data, build.scalar(low)), shape, "MaximumMinimumOptions")
    if high is not None:
        data = build.op("MINIMUM", (data, build.scalar(high)), shape, "MaximumMinimumOptions")
    return data


def _hard_sigmoid(build: TfliteBuilder, part: Part, data: int) -> int:
    """max(0, min(1, alpha x + beta)), in the two operators of a converted network where alpha is a sixth."""
    alpha, beta = part.values.attribute("alpha", 1 / 6), part.values.attribute("beta", 0.5)
    if np.isclose([alpha, beta], [1 / 6, 0.5]).all():
        return build.binary("mul", build.binary("add", data, build.scalar(3.0), "RELU6"), build.scalar(1 / 6))
    line = build.binary("add", build.binary("mul", data, build.scalar(alpha)), build.scalar(beta), "RELU")
    return build.op("MINIMUM", (line, build.scalar(1.0)), build.shape(line), "MaximumMinimumOptions")

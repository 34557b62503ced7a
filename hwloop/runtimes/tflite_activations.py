"""Activations as TFLite operators of their own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hwloop.errors import ModelError
from hwloop.runtimes.tflite_builder import TfliteBuilder

_SIMPLE: Mapping[str, tuple[str, str]] = {
    "relu": ("RELU", ""),
    "relu6": ("RELU6", ""),
    "elu": ("ELU", ""),
    "sigmoid": ("LOGISTIC", ""),
    "tanh": ("TANH", ""),
    "hard_swish": ("HARD_SWISH", "HardSwishOptions"),
    "gelu": ("GELU", "GeluOptions"),
}


def activation(build: TfliteBuilder, name: str, data: int) -> int:
    """An activation as an operator of its own, or as several where TFLite has none for it.

    Clip is MAXIMUM and MINIMUM, hard-sigmoid relu6(x + 3) / 6 (ADD with RELU6, MUL), SiLU LOGISTIC and MUL.
    """
    shape = build.shape(data)
    if name in _SIMPLE:
        operator, options = _SIMPLE[name]
        return build.op(operator, (data,), shape, options)
    if name == "leaky_relu":
        return build.op("LEAKY_RELU", (data,), shape, "LeakyReluOptions", alpha=0.01)
    if name == "prelu":
        slopes = (*(1 for _ in shape[1:-1]), shape[-1])
        return build.op("PRELU", (data, build.constant(np.full(slopes, 0.25, np.float32))), shape)
    if name == "clip":
        above = build.op("MAXIMUM", (data, build.scalar(-1.0)), shape, "MaximumMinimumOptions")
        return build.op("MINIMUM", (above, build.scalar(2.0)), shape, "MaximumMinimumOptions")
    if name == "hard_sigmoid":
        return build.binary("mul", build.binary("add", data, build.scalar(3.0), "RELU6"), build.scalar(1 / 6))
    if name == "silu":
        return build.binary("mul", data, build.op("LOGISTIC", (data,), shape))
    raise ModelError(f"TFLite has no operator for {name}: {build.layer.key}")

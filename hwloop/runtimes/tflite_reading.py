"""What a TFLite file takes, read from the file itself."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from hwloop.errors import ModelError
from hwloop.runtimes.artifact import InputSpec
from hwloop.runtimes.tflite_builder import FILE_IDENTIFIER, schema

FED = frozenset({"float32", "float16", "float64", "int8", "uint8", "int32", "int64", "bool"})
"""Types of inputs that the agent feeds."""


def read_inputs(data: bytes, label: str) -> tuple[InputSpec, ...]:
    """The inputs of a TFLite model; quantised ones are fed real numbers, which the agent quantises.

    Raises:
        ModelError: it is no TFLite model, has no input, or one of an unknown size or type.
        UserError: LiteRT is not installed.
    """
    if data[4:8] != FILE_IDENTIFIER:
        raise ModelError(f"{label} is not a TFLite model")
    try:
        graph = schema().Model.GetRootAs(data).Subgraphs(0)
        tensors = [graph.Tensors(graph.Inputs(at)) for at in range(graph.InputsLength())]
        inputs = tuple(_input(tensor, seed, label) for seed, tensor in enumerate(tensors))
    except (struct.error, AttributeError, IndexError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise ModelError(f"{label} is a damaged TFLite model: {type(error).__name__} {error}") from error
    if not inputs:
        raise ModelError(f"{label} has no input: nothing to measure")
    return inputs


def _input(tensor: Any, seed: int, label: str) -> InputSpec:
    name = tensor.Name().decode()
    shape = tuple(int(size) for size in tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()
    signature = tensor.ShapeSignatureAsNumpy() if tensor.ShapeSignatureLength() else np.array(shape)
    if min(*shape, *signature, 1) < 1:
        raise ModelError(f"{label}: input {name!r} has the shape {list(signature)}; export it with a fixed shape")
    kinds = {code: kind.lower() for kind, code in vars(schema().TensorType).items() if isinstance(code, int)}
    dtype = kinds.get(tensor.Type(), "unknown")
    if dtype not in FED:
        raise ModelError(f"{label}: input {name!r} is {dtype}, which hwloop cannot feed")
    quantised = tensor.Quantization() is not None and tensor.Quantization().ScaleLength() > 0
    if quantised:
        dtype = "float32"
    return InputSpec(name, shape, dtype, "normal" if dtype.startswith("float") else "integers", seed)

"""Artifacts for onnxruntime: ONNX files."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import helper
from torch import nn

from hwloop.errors import ModelError
from hwloop.extraction.export import BATCH_AXIS, INPUT_NAME, export_onnx
from hwloop.extraction.reading import load_onnx
from hwloop.layers import Layer
from hwloop.runtimes.artifact import Artifact, InputSpec
from hwloop.runtimes.onnx_layers import layer_model

SUFFIX = ".onnx"


class OnnxRuntime:
    """onnxruntime on a CPU; see `hwloop.runtimes.registry.Runtime`."""

    name = "onnxruntime"

    def layer(self, layer: Layer, *, seed: int = 0) -> Artifact:
        """An ONNX model of one layer, which onnxruntime fuses as it does inside a network.

        Args:
            layer: any supported float32 layer.
            seed: of weights and inputs; the same layer and seed give the same bytes.

        Raises:
            ModelError: the layer is unsupported.
        """
        data, inputs = layer_model(layer, seed)
        return Artifact(data, SUFFIX, self.name, inputs, {}, layer.key)

    def module(self, module: nn.Module, input_shape: tuple[int, ...]) -> Artifact:
        """A torch module with folded batch normalisation; batch 1.

        Raises:
            ModelError: torch cannot export it.
        """
        data = export_onnx(module, input_shape, fold=True)
        inputs = (InputSpec(INPUT_NAME, (1, *input_shape)),)
        return Artifact(data, SUFFIX, self.name, inputs, {"free_dimensions": {BATCH_AXIS: 1}}, type(module).__name__)

    def onnx(self, model: bytes, label: str) -> Artifact:
        """An ONNX file as it is; a symbolic first axis of an input is the batch and becomes 1.

        Raises:
            ModelError: it is no ONNX file, or an input has another symbolic size.
        """
        graph = load_onnx(model, label).graph
        constants = {tensor.name for tensor in graph.initializer}
        free: dict[str, int] = {}
        inputs = tuple(
            _input_spec(value, seed, free, label)
            for seed, value in enumerate(value for value in graph.input if value.name not in constants)
        )
        if not inputs:
            raise ModelError(f"{label} has no input: nothing to measure")
        options: dict[str, Any] = {"free_dimensions": free} if free else {}
        return Artifact(model, SUFFIX, self.name, inputs, options, label)


def _input_spec(value: onnx.ValueInfoProto, seed: int, free: dict[str, int], label: str) -> InputSpec:
    """What to feed an input; symbols that become 1 are noted in `free`."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        raise ModelError(f"{label}: input {value.name!r} has no known rank; export it with a fixed shape")
    shape = []
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.HasField("dim_value"):
            shape.append(dim.dim_value)
        elif dim.dim_param and (axis == 0 or dim.dim_param in free):
            free[dim.dim_param] = 1
            shape.append(1)
        else:
            raise ModelError(
                f"{label}: input {value.name!r} has the symbolic size {dim.dim_param or '?'!r} at axis {axis}; "
                "export it with a fixed shape"
            )
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return InputSpec(value.name, tuple(shape), dtype, "normal" if dtype.startswith("float") else "integers", seed)

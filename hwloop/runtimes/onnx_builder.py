"""Writes small ONNX models with seeded weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from hwloop.layers import Layer
from hwloop.runtimes.seeding import Array, SeededValues

OPSET = 17
IR_VERSION = 8
"""That of the opset: old runtimes on boards refuse newer ones."""


class ModelBuilder:
    """Nodes, constants and inputs of one small model; tensors are chained by name."""

    def __init__(self, layer: Layer, seed: int) -> None:
        """Start a model of `layer`."""
        self.layer = layer
        self.values = SeededValues(layer, seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def input(self, name: str, shape: tuple[int, ...]) -> str:
        """Declare an input."""
        return self.values.input(name, shape).name

    def constant(self, values: Array) -> str:
        """Add a constant."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def vector(self, size: int) -> str:
        """Add seeded values between 0.5 and 1.5."""
        return self.constant(self.values.vector(size))

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and name its output."""
        output = f"tensor_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], f"{op}_{len(self.nodes)}", **attributes))
        return output

    def finish(self, output: str) -> bytes:
        """The serialised model."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.layer.dtype))
        graph = helper.make_graph(
            self.nodes,
            "layer",
            [helper.make_tensor_value_info(one.name, kind, one.shape) for one in self.values.inputs],
            [helper.make_tensor_value_info(output, kind, self.layer.output_shape)],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        model.producer_name = "hwloop"
        return bytes(model.SerializeToString(deterministic=True))

"""Writes small ONNX models with seeded weights.

Weights have He's variance (He et al. 2015, section 2.2) and inputs variance 1, so that values stay in the range of a
trained network: with small weights activations become subnormal, which fakes a slow-down of 9 to 14 times.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from hwloop.layers import Layer
from hwloop.runtimes.artifact import InputSpec

OPSET = 17
IR_VERSION = 8
"""That of the opset: old runtimes on boards refuse newer ones."""
RANDOM_VALUES = 65_521
"""Weights repeat after this many values, as drawing millions takes long. A prime, so that rows differ."""
FEW = 64
"""With fewer outputs they could all be negative, and a ReLU's result exactly zero: then all is drawn positive."""

Array = NDArray[Any]


class ModelBuilder:
    """Nodes, constants and inputs of one small model; tensors are chained by name."""

    def __init__(self, layer: Layer, seed: int) -> None:
        """Start a model of `layer`."""
        self.layer = layer
        self.seed = seed
        self.positive = math.prod(layer.output_shape) < FEW
        digest = hashlib.sha256(f"{layer.key} {seed}".encode()).digest()
        self._random = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[InputSpec] = []

    def input(self, name: str, shape: tuple[int, ...]) -> str:
        """Declare an input."""
        # Numerator and denominator of a quotient are the same values: a random denominator can be almost zero.
        seed = self.seed if self.layer.op == "div" else self.seed + len(self.inputs)
        distribution = "uniform" if self.positive else "normal"
        self.inputs.append(InputSpec(name, shape, self.layer.dtype, distribution, seed))
        return name

    def constant(self, values: Array) -> str:
        """Add a constant."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def weight(self, shape: tuple[int, ...], fan_in: int) -> str:
        """Add seeded weights with variance 2 / fan_in."""
        count = math.prod(shape)
        values = self._random.standard_normal(min(count, RANDOM_VALUES), dtype=np.float32)
        values *= np.float32(math.sqrt(2.0 / fan_in))
        if self.positive:
            values = np.abs(values)
        return self.constant(np.resize(values, shape))

    def vector(self, size: int) -> str:
        """Add seeded values between 0.5 and 1.5: scales, shifts, slopes, variances."""
        return self.constant(self._random.random(size, dtype=np.float32) + np.float32(0.5))

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
            [helper.make_tensor_value_info(one.name, kind, one.shape) for one in self.inputs],
            [helper.make_tensor_value_info(output, kind, self.layer.output_shape)],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        model.producer_name = "hwloop"
        return bytes(model.SerializeToString(deterministic=True))

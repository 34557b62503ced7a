"""The real constants of the layers of an ONNX model, with what is fused into a layer folded in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from hwloop.errors import ModelError
from hwloop.extraction.graph import Graph, GraphNode
from hwloop.layers import Layer
from hwloop.runtimes.seeding import Array

_T = TypeVar("_T", int, float, str)

DEFAULTS: Mapping[tuple[str, str], Any] = MappingProxyType(
    {
        ("LeakyRelu", "alpha"): 0.01,
        ("Elu", "alpha"): 1.0,
        ("HardSigmoid", "alpha"): 0.2,
        ("HardSigmoid", "beta"): 0.5,
        ("BatchNormalization", "epsilon"): 1e-5,
        ("LayerNormalization", "epsilon"): 1e-5,
        ("Resize", "coordinate_transformation_mode"): "half_pixel",
        ("Resize", "nearest_mode"): "round_prefer_floor",
    }
)
"""What the ONNX standard says of attributes that a file leaves out."""


class OnnxConstants:
    """Every constant of a model by name, computed when it is asked for: weights may pass through a transposition."""

    def __init__(self, model: onnx.ModelProto, graph: Graph) -> None:
        """Take the model's initializers, and what `graph` knows of it already."""
        self._initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self._makers = {output: node for node in model.graph.node for output in node.output}
        self._opset = list(model.opset_import)
        self._known: dict[str, Array] = dict(graph.values)

    def __getitem__(self, name: str) -> Array:
        """The values of a constant.

        Raises:
            ModelError: it is made by operators that ONNX's reference implementation cannot compute.
        """
        if name not in self._known:
            if name in self._initializers:
                self._known[name] = numpy_helper.to_array(self._initializers[name])
            else:
                self._known.update(self._computed(name))
        return self._known[name]

    def _computed(self, name: str) -> dict[str, Array]:
        node = self._makers[name]
        used = [source for source in dict.fromkeys(node.input) if source]
        operator = helper.make_graph(
            [node],
            "constant",
            [helper.make_empty_tensor_value_info(source) for source in used],
            [helper.make_empty_tensor_value_info(output) for output in node.output if output],
        )
        feed = {source: self[source] for source in used}
        try:
            evaluator = ReferenceEvaluator(helper.make_model(operator, opset_imports=self._opset))
            results = evaluator.run(None, feed)
        except Exception as error:  # the reference implementation raises whatever its operators raise
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"the constant {name!r} cannot be computed: {node.op_type}: {reason}") from error
        return {output: np.asarray(result) for output, result in zip(node.output, results, strict=False)}


class OnnxLayerValues:
    """The constants of one layer of an ONNX model; see `hwloop.runtimes.tflite_values.LayerValues`."""

    def __init__(
        self,
        layer: Layer,
        nodes: Sequence[GraphNode],
        constants: OnnxConstants,
        names: Set[str],
        image: tuple[int, int, int] | None = None,
    ) -> None:
        """Say what the layer is made of.

        Args:
            layer: the layer.
            nodes: the ONNX nodes that it stands for, in order; the first does the work.
            constants: of the model.
            names: of all constants.
            image: channels, height and width of the image whose pixels are the features of this linear layer, when
                they come with the channels last.
        """
        self._layer, self._nodes = layer, nodes
        self._constants, self._names = constants, names
        self._image = image

    def conv(self) -> tuple[Array, Array | None]:
        """See `LayerValues.conv`."""
        node = self._nodes[0]
        bias = self._vector(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
        return self._folded(self._array(node.inputs[1]), bias)

    def linear(self) -> tuple[Array, Array | None]:
        """See `LayerValues.linear`."""
        node = self._nodes[0]
        weight, bias = self._array(node.inputs[1]), None
        if not node.attributes.get("transB", 0):
            weight = weight.T
        if self._image:
            weight = weight.reshape(-1, *self._image).transpose(0, 2, 3, 1).reshape(weight.shape)
        if node.op != "Gemm":
            return self._folded(weight, None)
        if len(node.inputs) > 2 and node.inputs[2] in self._names:
            bias = self._vector(node.inputs[2]) * np.float32(node.attributes.get("beta", 1.0))
        elif self._layer.residual and node.attributes.get("beta", 1.0) != 1.0:
            raise ModelError(f"a residual that is scaled: {self._layer.key}")
        return self._folded(weight * np.float32(node.attributes.get("alpha", 1.0)), bias)

    def batch_norm(self) -> tuple[Array, Array, Array, Array]:
        """See `LayerValues.batch_norm`."""
        scale, shift, mean, variance = (self._vector(name) for name in self._nodes[0].inputs[1:5])
        return scale, shift, mean, variance

    def layer_norm(self) -> tuple[Array, Array]:
        """See `LayerValues.layer_norm`."""
        node = self._nodes[0]
        gain = self._vector(node.inputs[1])
        shift = self._vector(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.zeros_like(gain)
        return gain, shift

    def operand(self) -> tuple[Array, bool]:
        """See `LayerValues.operand`."""
        node = self._nodes[0]
        at = next(at for at, name in enumerate(node.inputs) if name in self._names)
        return self._array(node.inputs[at]), at == 0

    def joined(self) -> list[int | Array]:
        """See `LayerValues.joined`."""
        operands: list[int | Array] = []
        inputs = 0
        for name in self._nodes[0].inputs:
            if name in self._names:
                operands.append(self._array(name))
            else:
                operands.append(inputs)
                inputs += 1
        return operands

    def slopes(self) -> Array:
        """See `LayerValues.slopes`."""
        return self._vector(self._nodes[0].inputs[1])

    def bounds(self) -> tuple[float | None, float | None]:
        """See `LayerValues.bounds`."""
        node = self._nodes[0]
        found: list[float | None] = [node.attributes.get("min"), node.attributes.get("max")]  # opset < 11
        for at, name in enumerate(node.inputs[1:3]):
            if name:
                found[at] = float(self._array(name))
        return found[0], found[1]

    def fill(self) -> float:
        """See `LayerValues.fill`."""
        node = self._nodes[0]
        if len(node.inputs) > 2 and node.inputs[2]:
            return float(self._array(node.inputs[2]).reshape(()))
        return float(node.attributes.get("value", 0.0))  # opset < 11

    def attribute(self, name: str, default: _T) -> _T:
        """See `LayerValues.attribute`."""
        node = self._nodes[0]
        value: _T = node.attributes.get(name, DEFAULTS.get((node.op, name), default))
        return value

    def _array(self, name: str) -> Array:
        return self._constants[name].astype(np.float32, copy=False)

    def _vector(self, name: str) -> Array:
        """One value per output channel."""
        values = self._array(name)
        layer = self._layer
        channels = layer.output_shape[-1] if layer.op == "linear" else layer.out_channels
        if values.size not in (1, channels):
            raise ModelError(f"{name!r} has the shape {values.shape}, not one value per channel: {layer.key}")
        return np.resize(values, channels)

    def _folded(self, weight: Array, bias: Array | None) -> tuple[Array, Array | None]:
        """Weights and bias with the batch normalisations, factors and summands behind them."""
        for node in self._nodes[1:]:
            if node.op == "BatchNormalization":
                scale, shift, mean, variance = (self._vector(name) for name in node.inputs[1:5])
                epsilon = node.attributes.get("epsilon", DEFAULTS[node.op, "epsilon"])
                factor = scale / np.sqrt(variance + np.float32(epsilon))
                weight = weight * factor.reshape(-1, *(1 for _ in weight.shape[1:]))
                bias = shift + ((0 if bias is None else bias) - mean) * factor
            elif node.op in ("Add", "Mul"):
                values = self._vector(next(name for name in node.inputs if name in self._names))
                if node.op == "Add":
                    bias = values if bias is None else bias + values
                else:
                    weight = weight * values.reshape(-1, *(1 for _ in weight.shape[1:]))
                    bias = None if bias is None else bias * values
        return weight, bias

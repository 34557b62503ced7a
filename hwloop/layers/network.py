"""A network as the layers that a runtime executes, and how they connect."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hwloop.errors import ModelError
from hwloop.layers.layer import Layer, Shape, features_are_channels
from hwloop.layers.liveness import live_tensors
from hwloop.layers.ops import ITEM_BYTES
from hwloop.layers.widths import propagate


@dataclass(frozen=True)
class Node:
    """One layer at its place in a network.

    Attributes:
        name: torch module path where it is known ("layer1.0.conv1"), else the name of the ONNX node; unique.
        layer: the work.
        inputs: index of the node that makes each input; -1 - k is the network's k-th input. One per shape of
            `layer.input_shapes`; the fused residual, if any, comes last.
        sources: names of the ONNX nodes that were fused into this one.
    """

    name: str
    layer: Layer
    inputs: tuple[int, ...]
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Network:
    """Layers in the order in which they are executed.

    Attributes:
        nodes: in topological order.
        input_shapes: of the network's inputs.
        outputs: indices of the nodes whose results the network returns (-1 - k: the k-th input, passed through).
    """

    nodes: tuple[Node, ...]
    input_shapes: tuple[Shape, ...]
    outputs: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse a graph whose connections do not fit.

        Raises:
            ModelError: a name occurs twice, or a node reads something that is not there yet or has another shape.
        """
        seen: set[str] = set()
        for index, node in enumerate(self.nodes):
            if node.name in seen:
                raise ModelError(f"two nodes are called {node.name!r}")
            seen.add(node.name)
            wanted = (*node.layer.input_shapes, *([node.layer.output_shape] if node.layer.residual else []))
            if len(wanted) != len(node.inputs):
                raise ModelError(f"{node.name} has {len(node.inputs)} inputs, its layer takes {len(wanted)}")
            for source, shape in zip(node.inputs, wanted, strict=True):
                if not -len(self.input_shapes) <= source < index:
                    raise ModelError(f"{node.name} reads tensor {source}, which does not exist before it")
                given = self.tensor_shape(source)
                if given != shape:
                    raise ModelError(f"{node.name} expects {shape} where {self.tensor_name(source)} gives {given}")
        for output in self.outputs:
            if not -len(self.input_shapes) <= output < len(self.nodes):
                raise ModelError(f"the network returns tensor {output}, which does not exist")

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in execution order."""
        return tuple(node.layer for node in self.nodes)

    @property
    def unsupported(self) -> tuple[Node, ...]:
        """The nodes that hwloop cannot measure; their `layer.detail` says why."""
        return tuple(node for node in self.nodes if not node.layer.supported)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference, by the convention of `Layer`."""
        return sum(node.layer.macs for node in self.nodes)

    @property
    def parameters(self) -> int:
        """Constants as executed, by the convention of `Layer`; a module that is used twice counts twice."""
        return sum(node.layer.parameters for node in self.nodes)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the constants."""
        return sum(node.layer.weight_bytes for node in self.nodes)

    @cached_property
    def peak_activation_bytes(self) -> int:
        """Largest sum of the tensors that are live together, over the schedule.

        Network inputs live from the start to their last use, outputs until the end, and a node's inputs and output
        are live together: no buffer is reused in place, views count like copies.
        """
        if not self.nodes:
            return 0
        return int((live_tensors(self) @ np.array(self._tensor_bytes(), np.int64)).max())

    def tensor_shape(self, source: int) -> Shape:
        """Shape of a tensor: of node `source`'s output, or of the network's input -1 - `source`."""
        return self.nodes[source].layer.output_shape if source >= 0 else self.input_shapes[-1 - source]

    def tensor_name(self, source: int) -> str:
        """Name of the node that makes a tensor, or which input of the network it is."""
        return self.nodes[source].name if source >= 0 else f"network input {-1 - source}"

    def tensor_dtypes(self) -> list[str]:
        """Data type of every tensor: the inputs (as their first reader takes them), then the nodes' outputs."""
        dtypes = ["float32"] * len(self.input_shapes)
        for node in reversed(self.nodes):
            for source in node.inputs:
                if source < 0:
                    dtypes[-1 - source] = node.layer.dtype
        return dtypes + [node.layer.dtype for node in self.nodes]

    def resized(self, widths: Mapping[str, int]) -> Network:
        """The same network with other widths.

        Args:
            widths: output channels by name of convolution and linear nodes. The rest follows: pools, sums,
                concatenations, features after a flatten, depthwise convolutions.

        Raises:
            ModelError: the widths contradict each other (both nodes are named), are not possible for a layer, or
                would change what an operation reads that hwloop cannot resize.
        """
        decided = {name: np.array([width], np.int64) for name, width in widths.items()}
        channels = [int(row[0]) for row in propagate(self, decided, columns=1)]
        offset = len(self.input_shapes)
        nodes = []
        for index, node in enumerate(self.nodes):
            if node.layer.op == "linear" and not features_are_channels(node.layer):
                nodes.append(node)  # its widths are not those of the tensors' channels, which stay
                continue
            data = node.inputs[: len(node.layer.input_shapes)]
            in_channels = tuple(channels[offset + source if source >= 0 else -1 - source] for source in data)
            try:
                layer = node.layer.resized(in_channels, channels[offset + index])
            except ModelError as error:
                raise ModelError(f"{node.name}: {error}") from None
            nodes.append(replace(node, layer=layer))
        return Network(tuple(nodes), self.input_shapes, self.outputs)

    def _tensor_bytes(self) -> list[int]:
        shapes = [*self.input_shapes, *(node.layer.output_shape for node in self.nodes)]
        return [math.prod(shape) * ITEM_BYTES[dtype] for shape, dtype in zip(shapes, self.tensor_dtypes(), strict=True)]

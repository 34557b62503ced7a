"""A whole network, from an ONNX model, as one TFLite model: layer by layer, by the functions that write single layers.

No converter: milliseconds, nothing to install, and the network holds the very operators that its layers were measured
as. Images have their channels last from the input on, so that nothing is transposed for the runtime's sake: a linear
layer behind a flattened image gets its columns in the other order, and a transposition of the network is only noted
until somebody needs the tensor in another order than it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx
from onnx import inliner

from hwloop.errors import ModelError
from hwloop.extraction.compounds import join_compounds
from hwloop.extraction.fusion import LITERT, fuse
from hwloop.extraction.graph import Graph
from hwloop.extraction.reading import load_onnx, read_graph
from hwloop.extraction.translate import translate
from hwloop.extraction.unit import Unit
from hwloop.layers import Layer
from hwloop.runtimes.artifact import InputSpec
from hwloop.runtimes.details import details, integers
from hwloop.runtimes.onnx_values import OnnxConstants, OnnxLayerValues
from hwloop.runtimes.tflite_builder import TfliteBuilder
from hwloop.runtimes.tflite_layers import check, write
from hwloop.runtimes.tflite_layout import IMAGES, PLAIN, TO_NHWC, Layout, Shape
from hwloop.runtimes.tflite_values import Part

CHANNELS_LAST = frozenset({"conv", "max_pool", "avg_pool", "global_avg_pool", "global_max_pool", "resize"})
"""Operations that TFLite has for images with their channels last only."""
PER_CHANNEL = frozenset({"batch_norm", "prelu"})
"""Operations with constants per channel, which TFLite broadcasts from the last axis."""
LAST_AXIS = frozenset({"linear", "matmul", "layer_norm"})
"""Operations over the last axis as it is written."""
ROWS_LAST = (0, 2, 1)
"""The order of an image with its channels last whose pixels were joined into one axis."""
SHOWN = 3
"""So many reasons are listed when a network cannot be written."""


def network_model(model: bytes | onnx.ModelProto, label: str) -> tuple[bytes, tuple[InputSpec, ...]]:
    """Write a network.

    Args:
        model: an ONNX model; a symbolic first axis of its inputs is the batch and becomes 1.
        label: what errors call it.

    Returns:
        The flatbuffer, which returns what the model returns, and its inputs. Inputs and outputs of four axes are
        images with their channels last.

    Raises:
        ModelError: it is no ONNX model, or has layers that TFLite or hwloop has no operators for; the text names them.
        UserError: LiteRT is not installed.
    """
    proto = load_onnx(model, label)
    if proto.functions:
        proto = inliner.inline_local_functions(proto)
    graph = read_graph(proto, 1)
    # A unit names the nodes that it is made of; by their results the nodes can be found again.
    graph.nodes = [replace(node, name=node.outputs[0]) for node in graph.nodes]
    join_compounds(graph)
    units = fuse([unit for node in graph.nodes for unit in translate(node, graph)], graph.outputs, LITERT)
    _refuse_unsupported(units, label)
    return _Writer(graph, units, OnnxConstants(proto, graph), label).write()


def _refuse_unsupported(units: Sequence[Unit], label: str) -> None:
    reasons = []
    for unit in units:
        try:
            check(unit.layer)
        except ModelError as error:
            reasons.append(f"{unit.name}: {error}")
    if reasons:
        more = f" and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
        raise ModelError(f"{label} cannot be written as a TFLite model: {'; '.join(reasons[:SHOWN])}{more}")


@dataclass(frozen=True)
class Tensor:
    """A tensor of the network in the model that is being written.

    Attributes:
        index: in the model.
        shape: as the network has it.
        order: which axis of `shape` each axis in memory is; (0, 2, 3, 1) is an image with its channels last.
        image: for features that are the pixels of an image with its channels last: its channels, height and width.
    """

    index: int
    shape: Shape
    order: Shape
    image: tuple[int, int, int] | None = None

    @property
    def stored(self) -> Shape:
        """The shape in memory."""
        return tuple(self.shape[axis] for axis in self.order)

    def lies_as(self, order: Shape) -> bool:
        """Whether the memory is the same in another order: only axes of size 1 move."""
        large = [axis for axis in self.order if self.shape[axis] > 1]
        return large == [axis for axis in order if self.shape[axis] > 1]


def plain(rank: int) -> Shape:
    """The order of a tensor that lies as it is written."""
    return tuple(range(rank))


def order_of(rank: int, layout: Layout) -> Shape:
    """The order in which a layer of a layout takes and gives tensors."""
    return TO_NHWC if layout.channels_last and rank == 4 else plain(rank)


class _Writer:
    def __init__(self, graph: Graph, units: Sequence[Unit], constants: OnnxConstants, label: str) -> None:
        self._graph, self._units, self._constants, self._label = graph, units, constants, label
        self._nodes = {node.name: node for node in graph.nodes}
        self._build = TfliteBuilder()
        self._tensors: dict[str, Tensor] = {}
        self._moved: dict[tuple[int, Shape], int] = {}

    def write(self) -> tuple[bytes, tuple[InputSpec, ...]]:
        inputs = tuple(self._input(name, seed) for seed, name in enumerate(self._graph.inputs))
        for unit in self._units:
            try:
                self._tensors[unit.output] = self._unit(unit)
            except ModelError as error:
                raise ModelError(f"{self._label} cannot be written as a TFLite model: {unit.name}: {error}") from error
        results = [self._tensors[name] for name in self._graph.outputs]
        outputs = [self._in_order(one, order_of(len(one.shape), IMAGES)) for one in results]
        return self._build.finish(*outputs, signature=True), inputs

    def _input(self, name: str, seed: int) -> InputSpec:
        dtype = self._graph.dtypes.get(name, "float32")
        if dtype != "float32":
            raise ModelError(f"{self._label}: input {name!r} is {dtype}; hwloop writes float32 networks for litert")
        shape = self._graph.shapes[name]
        stored = IMAGES.shape(shape)
        self._tensors[name] = Tensor(self._build.input(name, stored), shape, order_of(len(shape), IMAGES))
        return InputSpec(name, stored, "float32", "normal", seed)

    def _unit(self, unit: Unit) -> Tensor:
        layer = unit.layer
        inputs = [self._tensors[name] for name in unit.inputs]
        if layer.op == "transpose":
            return _transposed(inputs[0], tuple(integers(details(layer)["perm"])))
        if layer.op in ("flatten", "reshape"):
            return self._reshaped(inputs[0], layer.output_shape, self._feeds_linear_layers_only(unit.output))
        layout = layout_in(layer, inputs)
        image = inputs[0].image if layer.op == "linear" else None
        nodes = [self._nodes[name] for name in unit.sources]
        values = OnnxLayerValues(layer, nodes, self._constants, self._graph.constants, image)
        data = [self._in_order(one, order_of(len(one.shape), layout)) for one in inputs]
        result = write(self._build, Part(layer, values, layout), *data)
        return Tensor(result, layer.output_shape, order_of(len(layer.output_shape), layout))

    def _feeds_linear_layers_only(self, name: str) -> bool:
        if name in self._graph.outputs:
            return False
        return all(unit.layer.op == "linear" and unit.inputs[0] == name for unit in self._units if name in unit.inputs)

    def _reshaped(self, tensor: Tensor, shape: Shape, linear: bool) -> Tensor:
        if tensor.order == TO_NHWC:
            _, channels, height, width = tensor.shape
            if len(shape) == 2 and linear:
                return Tensor(self._reshape(tensor.index, shape), shape, plain(2), (channels, height, width))
            if shape == (1, channels, height * width):
                return Tensor(self._reshape(tensor.index, (1, shape[2], channels)), shape, ROWS_LAST)
        if tensor.order == ROWS_LAST and len(shape) == 4 and shape[:2] == tensor.shape[:2]:
            return Tensor(self._reshape(tensor.index, IMAGES.shape(shape)), shape, TO_NHWC)
        order = plain(len(tensor.shape))
        index = tensor.index if tensor.lies_as(order) else self._in_order(tensor, order)
        return Tensor(self._reshape(index, shape), shape, plain(len(shape)))

    def _in_order(self, tensor: Tensor, order: Shape) -> int:
        """The tensor with its axes in another order in memory."""
        if tensor.order == order:
            return tensor.index
        if (tensor.index, order) not in self._moved:
            stored = tuple(tensor.shape[axis] for axis in order)
            if tensor.lies_as(order):
                index = self._reshape(tensor.index, stored)
            else:
                axes = self._build.integers(*(tensor.order.index(axis) for axis in order))
                index = self._build.op("TRANSPOSE", (tensor.index, axes), stored, "TransposeOptions")
            self._moved[tensor.index, order] = index
        return self._moved[tensor.index, order]

    def _reshape(self, tensor: int, shape: Shape) -> int:
        if self._build.shape(tensor) == shape:
            return tensor
        sizes = self._build.integers(*shape)
        return self._build.op("RESHAPE", (tensor, sizes), shape, "ReshapeOptions", newShape=list(shape))


def _transposed(tensor: Tensor, axes: Shape) -> Tensor:
    """The same memory with its axes named anew."""
    return Tensor(
        tensor.index, tuple(tensor.shape[axis] for axis in axes), tuple(axes.index(axis) for axis in tensor.order)
    )


def layout_in(layer: Layer, inputs: Sequence[Tensor]) -> Layout:
    """The layout in which a layer of a network computes: what TFLite demands, else that of its inputs."""
    images = [one for one in inputs if len(one.shape) == 4]
    if layer.op in CHANNELS_LAST or (layer.op in PER_CHANNEL and images):
        return IMAGES
    if layer.op in LAST_AXIS or len({len(one.shape) for one in inputs} | {len(layer.output_shape)}) > 1:
        return PLAIN  # also where a lower rank is broadcast, or axes disappear
    if layer.op in ("softmax", "log_softmax"):
        return IMAGES if layer.detail == "axis=1" else PLAIN
    return IMAGES if any(one.order == TO_NHWC for one in images) else PLAIN

"""How the channels of every tensor of a network follow from the channels that its convolutions are given.

A width is a row of integers: its constant part, then one coefficient per free variable. With no variables a row is
one plain number (`Network.resized`); with one variable per channel group it is an affine form that stands for all
candidates at once (`ScalableNetwork`). Both are the same rules, run once over the nodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hwloop.errors import ModelError
from hwloop.layers.layer import Layer, Shape, channels_of, features_are_channels
from hwloop.layers.ops import OPS, channel_axis

if TYPE_CHECKING:
    from hwloop.layers.network import Network, Node

Row = NDArray[np.int64]


def propagate(network: Network, decided: Mapping[str, Row], columns: int) -> NDArray[np.int64]:
    """Channels of every tensor.

    Args:
        network: the network; its inputs keep their channels.
        decided: the output channels of convolutions and linear layers by node name; the others keep theirs.
        columns: length of each row: 1 + number of variables.

    Returns:
        One row per tensor: the network's inputs first, then the nodes' outputs.

    Raises:
        ModelError: a name is no convolution or linear layer, or two tensors that meet have different widths; the
            text names the nodes.
    """
    setters = {node.name for node in network.nodes if OPS[node.layer.op].width == "set"}
    for name in decided:
        if name not in setters:
            raise ModelError(f"{name!r} is no convolution or linear layer of this network: its width cannot be set")
    rows = [_constant(channels_of(shape), columns) for shape in network.input_shapes]
    offset = len(rows)
    for node in network.nodes:
        inputs = [rows[offset + source] if source >= 0 else rows[-1 - source] for source in node.inputs]
        row = _output_row(network, node, inputs, decided.get(node.name), columns)
        if node.layer.residual and not np.array_equal(inputs[-1], row):
            raise ModelError(
                f"{node.name} and {network.tensor_name(node.inputs[-1])} are added, but would have different widths: "
                f"{_text(row)} and {_text(inputs[-1])}"
            )
        rows.append(row)
    return np.stack(rows) if rows else np.zeros((0, columns), np.int64)


def _output_row(network: Network, node: Node, inputs: Sequence[Row], decided: Row | None, columns: int) -> Row:
    layer = node.layer
    rule = OPS[layer.op].width
    base = _constant(channels_of(layer.output_shape), columns)
    if layer.op == "linear" and not features_are_channels(layer):
        if decided is not None:
            raise ModelError(
                f"{node.name} reads the last of {len(layer.output_shape)} axes: its width cannot be set, because the "
                "channels are on another"
            )
        rule = "fixed"
    if rule == "set":
        if not layer.depthwise:
            return base if decided is None else decided
        follows = inputs[0] * (layer.out_channels // layer.in_channels)
        if decided is not None and not np.array_equal(decided, follows):
            raise ModelError(
                f"{node.name} is depthwise and must follow {network.tensor_name(node.inputs[0])}: "
                f"its width would be {_text(decided)} instead of {_text(follows)}"
            )
        return follows
    if rule == "same":
        return inputs[0]
    if rule == "sum" and _concat_axis(layer) == channel_axis(layer.output_shape):
        constants = layer.out_channels - sum(channels_of(shape) for shape in layer.input_shapes)
        total: Row = np.stack(inputs).sum(axis=0) + _constant(constants, columns)
        return total
    if rule in ("equal", "sum"):
        return _agreed(network, node, inputs)
    if rule == "pad":
        return inputs[0] + _constant(layer.out_channels - layer.in_channels, columns)
    if rule == "slice" and layer.in_channels == layer.out_channels:
        return inputs[0]
    if rule == "reshape":
        factor = reshape_factor(layer.input_shapes[0], layer.output_shape)
        if factor:
            return inputs[0] * factor
    for source, shape, row in zip(node.inputs, layer.input_shapes, inputs, strict=False):
        if not np.array_equal(row, _constant(channels_of(shape), columns)):
            raise ModelError(
                f"{node.name} ({layer.detail if layer.op == 'unsupported' else layer.op}) depends on the width of "
                f"{network.tensor_name(source)} in a way that hwloop does not know: keep that width as it is"
            )
    return base


def reshape_factor(before: Shape, after: Shape) -> int:
    """Output channels per input channel of a reshape.

    Returns:
        1 when the channels stay what they are, H*W when (N, C, H, W) becomes (N, C*H*W), and 0 when the channels
        are mixed with other axes in another way.
    """
    if len(before) < 2 or len(after) < 2 or before[0] != after[0] or channel_axis(before) != 1:
        return 0
    if len(after) == 2:
        return math.prod(before[2:])
    return int(before[1] == after[1] and channel_axis(after) == 1)


def _agreed(network: Network, node: Node, inputs: Sequence[Row]) -> Row:
    """The common width of inputs that meet elementwise; those of one channel are broadcast."""
    one = _constant(1, inputs[0].shape[0])
    agreed, first = inputs[0], node.inputs[0]
    for source, row in zip(node.inputs[1:], inputs[1:], strict=True):
        if np.array_equal(agreed, one):
            agreed, first = row, source
        elif not np.array_equal(row, one) and not np.array_equal(row, agreed):
            raise ModelError(
                f"{network.tensor_name(first)} and {network.tensor_name(source)} meet in {node.name}, but would have "
                f"different widths: {_text(agreed)} and {_text(row)}"
            )
    if node.layer.in_channels == 1 and len(node.inputs) == 1 and node.layer.out_channels != 1:
        return _constant(node.layer.out_channels, inputs[0].shape[0])  # broadcast against a constant
    return agreed


def _concat_axis(layer: Layer) -> int:
    return int(layer.detail.split()[0].removeprefix("axis="))


def _constant(value: int, columns: int) -> Row:
    row = np.zeros(columns, np.int64)
    row[0] = value
    return row


def _text(row: Row) -> str:
    """An affine form for people: 16, or 8 + 2*group0."""
    terms = [f"{factor}*group{index}" for index, factor in enumerate(row[1:]) if factor]
    return " + ".join([str(row[0]), *terms]) if row[0] or not terms else " + ".join(terms)

"""Whole networks as programs of ATen calls: torch.export, batch normalisations folded, what does nothing left out."""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from hwloop.errors import ModelError
from hwloop.runtimes.torch_calls import CallsWriter, Value

aten = torch.ops.aten
IDLE = frozenset({aten.dropout.default, aten.feature_dropout.default, aten.alpha_dropout.default})
"""What returns its input at inference."""


def export_calls(
    module: nn.Module, input_shape: tuple[int, ...], dtype: str, channels_last: bool
) -> tuple[bytes, tuple[str, ...]]:
    """Export a module with torch.export, in inference mode, batch 1, and write its graph.

    Args:
        module: left as it was.
        input_shape: of one example, without the batch.
        dtype: in which it computes, "float32" or "bfloat16"; its inputs have it too.
        channels_last: whether images and weights of convolutions are stored with the channels last.

    Returns:
        The `.calls` file, and the names of its inputs. The same module gives the same bytes.

    Raises:
        ModelError: torch cannot export the module, or its graph has more than ATen calls; one line with the reason.
    """
    kind: torch.dtype = getattr(torch, dtype)
    name = type(module).__name__
    try:
        one = copy.deepcopy(module).eval().to(device="cpu", dtype=kind)
        example = torch.zeros(1, *input_shape, dtype=kind)
        if channels_last:
            for parameter in one.parameters():
                if parameter.dim() == 4:
                    parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
            if example.dim() == 4:
                example = example.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            graph: Any = torch.export.export(one, (example,), strict=False).module(check_guards=False)
            fold_norms(graph)
            return _write(graph, name)
    except ModelError:
        raise
    except Exception as error:  # torch raises whatever the module's forward and its own passes raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(
            f"{name} cannot be exported by torch for an input of {tuple(input_shape)}: {reason}"
        ) from error


def fold_norms(graph: GraphModule) -> None:
    """Fold batch normalisations into the convolutions and bias-free matrix products before them, in place.

    What is folded is what `hwloop.extraction.fusion` expects; a weight that is used twice is left alone.
    """
    used = [node.target for node in graph.graph.nodes if node.op == "get_attr"]
    for node in list(graph.graph.nodes):
        if node.target is not aten.batch_norm.default or node.args[5]:
            continue
        maker = node.args[0]
        convolves = maker.target is aten.conv2d.default
        multiplies = maker.target is aten.linear.default and len(maker.args) == 2 and maker.meta["val"].dim() == 2
        if not (convolves or multiplies) or len(maker.users) != 1 or maker.args[1].op != "get_attr":
            continue
        weight = maker.args[1].target
        if used.count(weight) > 1 or len(maker.args[1].users) > 1 or any(one is None for one in node.args[1:5]):
            continue
        _fold(graph, maker, node, fuse_conv_bn_weights if convolves else fuse_linear_bn_weights)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _fold(graph: GraphModule, maker: Node, norm: Node, fuse: Any) -> None:
    weight_node: Any = maker.args[1]
    bias_node: Any = maker.args[2] if len(maker.args) > 2 else None
    scale, shift, mean, variance = (_value(graph, one) for one in norm.args[1:5])
    before = _value(graph, weight_node)
    bias = None if bias_node is None else _value(graph, bias_node)
    weight, bias = fuse(before, bias, mean, variance, norm.args[7], scale, shift)
    owner, _, name = str(weight_node.target).rpartition(".")
    place = graph.get_submodule(owner)
    if _channels_last(before):
        weight = weight.contiguous(memory_format=torch.channels_last)
    setattr(place, name, nn.Parameter(weight, requires_grad=False))
    place.register_parameter("folded_bias", nn.Parameter(bias, requires_grad=False))
    with graph.graph.inserting_before(maker):
        new = graph.graph.get_attr(f"{owner}.folded_bias" if owner else "folded_bias")
    maker.args = (maker.args[0], weight_node, new, *maker.args[3:])
    norm.replace_all_uses_with(maker)
    graph.graph.erase_node(norm)


def _value(graph: GraphModule, node: Any) -> torch.Tensor:
    owner, _, name = str(node.target).rpartition(".")
    found: torch.Tensor = getattr(graph.get_submodule(owner), name)
    return found.detach()


def _channels_last(tensor: torch.Tensor) -> bool:
    """Whether a tensor is stored with the channels last, and not in the order of its shape too."""
    return tensor.dim() == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)


def _write(graph: GraphModule, label: str) -> tuple[bytes, tuple[str, ...]]:
    writer = CallsWriter()
    values: dict[Node, Any] = {}
    inputs = []
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            inputs.append(str(node.target))
            values[node] = writer.input(inputs[-1])
    tensors: dict[str, Value] = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            target = str(node.target)
            if target not in tensors:
                tensors[target] = _write_tensor(writer, _value(graph, node))
            values[node] = tensors[target]
        elif node.op == "call_function" and node.target in IDLE:
            values[node] = values[node.args[0]]
        elif node.op == "call_function":
            values[node] = _write_call(writer, node, values, label)
        elif node.op == "output":
            flat = torch.utils._pytree.tree_leaves(node.args)
            return writer.finish(*(values[one] for one in flat if isinstance(one, Node))), tuple(inputs)
        elif node.op != "placeholder":
            raise ModelError(
                f"{label} has a {node.op} in its exported graph, which hwloop does not write: {node.target}"
            )
    raise ModelError(f"{label} returns nothing")


def _write_tensor(writer: CallsWriter, tensor: torch.Tensor) -> Value:
    plain = tensor.contiguous()
    data = plain.view(torch.uint16) if plain.dtype is torch.bfloat16 else plain
    dtype = str(plain.dtype).removeprefix("torch.")
    return writer.tensor(data.numpy().tobytes(), dtype, tuple(plain.shape), channels_last=_channels_last(tensor))


def _write_call(writer: CallsWriter, node: Node, values: Mapping[Node, Any], label: str) -> Value:
    arguments = [_argument(one, values, label) for one in node.args]
    if node.target is operator.getitem:
        return writer.call("getitem", *arguments)
    target = str(node.target)
    if not isinstance(node.target, torch._ops.OpOverload) or not target.startswith("aten."):
        raise ModelError(f"{label} calls {target}, which is no ATen operator")
    keywords = {name: _argument(one, values, label) for name, one in node.kwargs.items()}
    weights = [str(one.target) for one in node.all_input_nodes if one.op == "get_attr"]
    name = next((path.removesuffix(".weight") for path in weights if path.endswith(".weight")), node.name)
    return writer.call(target.removeprefix("aten."), *arguments, name=name, keywords=keywords)


def _argument(given: Any, values: Mapping[Node, Any], label: str) -> Any:
    if isinstance(given, Node):
        return values[given]
    if given is None or isinstance(given, bool | int | float | str):
        return given
    if isinstance(given, Sequence):
        return [_argument(one, values, label) for one in given]
    if isinstance(given, torch.dtype | torch.memory_format):
        kind = "dtype" if isinstance(given, torch.dtype) else "memory_format"
        return {kind: str(given).removeprefix("torch.")}
    if isinstance(given, torch.device) and given.type == "cpu":
        return {"device": "cpu"}
    raise ModelError(f"{label} passes a {type(given).__name__} to an operator, which hwloop does not write")

"""What each ONNX operator is as a layer: its fields apart from shapes and data type."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hwloop.extraction.graph import Graph, GraphNode, Shape
from hwloop.layers.ops import channel_axis


class UnreadableError(Exception):
    """A node cannot be expressed as a layer; the text says why."""


_SAME_SHAPE = {
    "Relu": "relu",
    "LeakyRelu": "leaky_relu",
    "Elu": "elu",
    "Selu": "selu",
    "Sigmoid": "sigmoid",
    "HardSigmoid": "hard_sigmoid",
    "HardSwish": "hard_swish",
    "Tanh": "tanh",
    "Gelu": "gelu",
    "Silu": "silu",
    "Softplus": "softplus",
    "GlobalAveragePool": "global_avg_pool",
    "GlobalMaxPool": "global_max_pool",
    "Reshape": "reshape",
    "Squeeze": "reshape",
    "Unsqueeze": "reshape",
}
"""Operators of one data input that are known by name and shapes alone."""

COUNTED_PADDING = "padding=counted"
"""Detail of an average pool whose padding counts as pixels, as torch's does by default."""

_BINARY = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div"}


def read_fields(node: GraphNode, graph: Graph, data: tuple[str, ...]) -> dict[str, Any]:
    """The fields of `Layer` that an operator's name, attributes and constants decide.

    Args:
        node: a node of a standard operator.
        graph: with the shapes of the node's tensors.
        data: the node's inputs that are no constants.

    Raises:
        UnreadableError: hwloop does not know the operator, or not with these attributes.
    """
    if node.op in _SAME_SHAPE:
        return {"op": _SAME_SHAPE[node.op]}
    if node.op in _BINARY:
        return {"op": _BINARY[node.op]} | _constant_operand(node, graph, data)
    if node.op in _READERS:
        return _READERS[node.op](node, graph)
    raise UnreadableError("hwloop does not know this operator")


def slice_fields(cuts: Iterable[tuple[int, int, int]]) -> dict[str, Any]:
    """The fields of a slice that cuts axes: (axis, start, step) each."""
    axes, starts, steps = zip(*cuts, strict=True)
    return {"op": "slice", "detail": f"axes={_joined(axes)} starts={_joined(starts)} steps={_joined(steps)}"}


def _constant_operand(node: GraphNode, graph: Graph, data: tuple[str, ...]) -> dict[str, Any]:
    """How the constant of an elementwise operation is broadcast: that decides the work, not its values."""
    if len(data) == 2:
        return {}
    constant = next(graph.shapes[name] for name in node.inputs if name in graph.constants)
    output = graph.shapes[node.outputs[0]]
    aligned = (1,) * (len(output) - len(constant)) + constant
    axis = channel_axis(output)
    if all(size == 1 for size in aligned):
        return {"detail": "const=scalar"}
    if axis is not None and all(size == (output[axis] if at == axis else 1) for at, size in enumerate(aligned)):
        return {"detail": "const=channel"}
    if aligned == output:
        return {"detail": "const=full"}
    return {"detail": f"const={'x'.join(map(str, aligned))}"}


def _conv(node: GraphNode, graph: Graph) -> dict[str, Any]:
    if node.inputs[1] not in graph.constants:
        raise UnreadableError("its weights are computed from the input")
    weight = graph.shapes[node.inputs[1]]
    if len(weight) != 4:
        raise UnreadableError(f"a convolution over {len(weight) - 2} axes")
    geometry = _geometry(node, graph, (weight[2], weight[3]))
    groups = node.attributes.get("group", 1)
    return {"op": "conv", **geometry, "groups": groups, "bias": len(node.inputs) > 2 and bool(node.inputs[2])}


def _pool(node: GraphNode, graph: Graph) -> dict[str, Any]:
    kernel = node.attributes["kernel_shape"]
    if len(kernel) != 2:
        raise UnreadableError(f"a pool over {len(kernel)} axes")
    geometry = _geometry(node, graph, tuple(kernel))
    if node.op == "MaxPool":
        return {"op": "max_pool", **geometry}
    counted = node.attributes.get("count_include_pad", 0) and any(geometry["padding"])
    return {"op": "avg_pool", **geometry, "detail": COUNTED_PADDING if counted else ""}


def _geometry(node: GraphNode, graph: Graph, kernel: tuple[int, int]) -> dict[str, Any]:
    attributes = node.attributes
    stride = tuple(attributes.get("strides", (1, 1)))
    dilation = tuple(attributes.get("dilations", (1, 1)))
    padding = tuple(attributes.get("pads", (0, 0, 0, 0)))
    automatic = attributes.get("auto_pad", "NOTSET")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        shape, output = graph.shapes[node.inputs[0]], graph.shapes[node.outputs[0]]
        before, after = [], []
        for axis in (0, 1):
            span = dilation[axis] * (kernel[axis] - 1) + 1
            total = max((output[2 + axis] - 1) * stride[axis] + span - shape[2 + axis], 0)
            small = total // 2
            before.append(small if automatic == "SAME_UPPER" else total - small)
            after.append(total - before[-1])
        padding = (*before, *after)
    elif automatic == "VALID":
        padding = (0, 0, 0, 0)
    return {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}


def _gemm(node: GraphNode, graph: Graph) -> dict[str, Any]:
    if node.attributes.get("transA", 0):
        raise UnreadableError("a transposed input")
    if node.inputs[0] in graph.constants or node.inputs[1] not in graph.constants:
        raise UnreadableError("its weights are computed from the input")
    addend = node.inputs[2] if len(node.inputs) > 2 else ""
    if addend and addend not in graph.constants:
        if graph.shapes[addend] != graph.shapes[node.outputs[0]]:
            raise UnreadableError("adds a broadcast tensor")
        return {"op": "linear", "residual": True}
    return {"op": "linear", "bias": bool(addend)}


def _matmul(node: GraphNode, graph: Graph) -> dict[str, Any]:
    left, right = node.inputs
    if left in graph.constants:
        raise UnreadableError("a constant on the left")
    if right not in graph.constants:
        return {"op": "matmul"}
    if len(graph.shapes[right]) != 2 or len(graph.shapes[left]) < 2:
        raise UnreadableError("weights that are no matrix, or an input that is a vector")
    return {"op": "linear"}


def _batch_norm(node: GraphNode, graph: Graph) -> dict[str, Any]:
    if node.attributes.get("training_mode", 0):
        raise UnreadableError("batch normalisation in training mode")
    if any(name not in graph.constants for name in node.inputs[1:5]):
        raise UnreadableError("its statistics are computed from the input")
    return {"op": "batch_norm"}


def _clip(node: GraphNode, graph: Graph) -> dict[str, Any]:
    bounds: list[float | None] = [node.attributes.get("min"), node.attributes.get("max")]  # opset < 11
    for index, name in enumerate(node.inputs[1:3]):
        if name:
            if name not in graph.values:
                raise UnreadableError("its bounds are computed from the input")
            bounds[index] = float(graph.values[name])
    return {"op": "relu6" if bounds == [0.0, 6.0] else "clip"}


def _prelu(node: GraphNode, graph: Graph) -> dict[str, Any]:
    if node.inputs[1] not in graph.constants:
        raise UnreadableError("its slopes are computed from the input")
    return {"op": "prelu"}


def _concat(node: GraphNode, graph: Graph) -> dict[str, Any]:
    axis = positive_axis(node.attributes["axis"], graph.shapes[node.outputs[0]])
    constants = [
        f"{index}:{'x'.join(map(str, graph.shapes[name]))}"
        for index, name in enumerate(node.inputs)
        if name in graph.constants
    ]
    return {"op": "concat", "detail": f"axis={axis}" + (f" const={','.join(constants)}" if constants else "")}


def _softmax(node: GraphNode, graph: Graph) -> dict[str, Any]:
    axis = positive_axis(node.attributes.get("axis", -1), graph.shapes[node.outputs[0]])
    return {"op": "softmax" if node.op == "Softmax" else "log_softmax", "detail": f"axis={axis}"}


def _layer_norm(node: GraphNode, graph: Graph) -> dict[str, Any]:
    shape = graph.shapes[node.outputs[0]]
    if positive_axis(node.attributes.get("axis", -1), shape) != channel_axis(shape) or len(shape) > 3:
        raise UnreadableError("normalises over more than the features")
    return {"op": "layer_norm"}


def _reduce_mean(node: GraphNode, graph: Graph) -> dict[str, Any]:
    shape = graph.shapes[node.inputs[0]]
    axes = node.attributes.get("axes")
    if axes is None and len(node.inputs) > 1 and node.inputs[1]:
        axes = graph.values[node.inputs[1]].tolist()
    if not axes:
        axes = range(len(shape))
    axes = sorted(positive_axis(axis, shape) for axis in axes)
    if len(shape) == 4 and axes == [2, 3]:
        return {"op": "global_avg_pool", "detail": "reduce"}
    return {"op": "reduce_mean", "detail": f"axes={_joined(axes)}"}


def _flatten(node: GraphNode, graph: Graph) -> dict[str, Any]:
    axis = positive_axis(node.attributes.get("axis", 1), graph.shapes[node.inputs[0]])
    return {"op": "flatten" if axis == 1 else "reshape"}


def _transpose(node: GraphNode, graph: Graph) -> dict[str, Any]:
    rank = len(graph.shapes[node.inputs[0]])
    return {"op": "transpose", "detail": f"perm={_joined(node.attributes.get('perm', range(rank)[::-1]))}"}


def _slice(node: GraphNode, graph: Graph) -> dict[str, Any]:
    shape = graph.shapes[node.inputs[0]]
    if "starts" in node.attributes:  # opset < 10
        starts, ends = node.attributes["starts"], node.attributes["ends"]
        axes = node.attributes.get("axes", list(range(len(starts))))
        steps = [1] * len(starts)
    else:
        given: list[Any] = [graph.values[name].tolist() if name else None for name in node.inputs[1:]]
        starts, ends = given[:2]
        axes = given[2] if len(given) > 2 and given[2] is not None else list(range(len(starts)))
        steps = given[3] if len(given) > 3 and given[3] is not None else [1] * len(starts)
    axes = [positive_axis(axis, shape) for axis in axes]
    bounds = [slice(*at).indices(shape[axis]) for axis, *at in zip(axes, starts, ends, steps, strict=True)]
    return slice_fields([(axis, start, step) for axis, (start, _, step) in sorted(zip(axes, bounds, strict=True))])


def _pad(node: GraphNode, graph: Graph) -> dict[str, Any]:
    pads = node.attributes.get("pads")  # opset < 11
    if pads is None:
        pads = graph.values[node.inputs[1]].tolist()
    if len(node.inputs) > 3 and node.inputs[3]:
        raise UnreadableError("pads chosen axes only")
    if min(pads) < 0:
        raise UnreadableError("a negative pad")
    return {"op": "pad", "detail": f"pads={_joined(pads)} mode={node.attributes.get('mode', 'constant')}"}


def _resize(node: GraphNode, graph: Graph) -> dict[str, Any]:
    shape, output = graph.shapes[node.inputs[0]], graph.shapes[node.outputs[0]]
    if len(shape) != 4 or shape[:2] != output[:2]:
        raise UnreadableError("resizes other axes than height and width")
    mode = node.attributes.get("mode", "nearest")
    if mode not in ("nearest", "linear"):
        raise UnreadableError(f"mode {mode}")
    return {"op": "resize", "detail": f"mode={mode}"}


_READERS: Mapping[str, Callable[[GraphNode, Graph], dict[str, Any]]] = {
    "Conv": _conv,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "PRelu": _prelu,
    "Concat": _concat,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "LayerNormalization": _layer_norm,
    "ReduceMean": _reduce_mean,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Slice": _slice,
    "Pad": _pad,
    "Resize": _resize,
    "Upsample": _resize,
}


def positive_axis(axis: int, shape: Shape) -> int:
    """An axis counted from the front."""
    return int(axis) + len(shape) if axis < 0 else int(axis)


def _joined(values: Iterable[int]) -> str:
    return ",".join(str(int(value)) for value in values)

"""From ONNX operators to layers, one by one and unfused.

Whatever cannot be read becomes an ``unsupported`` layer that says why; nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from hwloop.errors import ModelError
from hwloop.extraction.graph import Graph, GraphNode
from hwloop.extraction.operators import UnreadableError, positive_axis, read_fields, slice_fields
from hwloop.extraction.unit import Unit
from hwloop.layers import ITEM_BYTES, Layer

WEIGHT_INPUT: Mapping[str, int] = {
    "Conv": 1,
    "Gemm": 1,
    "MatMul": 1,
    "BatchNormalization": 1,
    "PRelu": 1,
    "LayerNormalization": 1,
}
"""Which input of an operator is the parameter whose name carries the torch module path."""


DAMAGE = (KeyError, IndexError, ValueError, TypeError, AttributeError)
"""What reading a node raises whose attributes or inputs are missing or of the wrong type."""


def translate(node: GraphNode, graph: Graph) -> list[Unit]:
    """The layers of one node: one, or one per result for an operator with several."""
    if node.op in _SEVERAL and not node.domain:
        with suppress(UnreadableError, ModelError, *DAMAGE):  # then it is read below, as an unknown operator
            return _SEVERAL[node.op](node, graph)
    name = module_path(node, graph) or node.name or node.outputs[0]
    data = _data_inputs(node, graph)
    try:
        layer = _read(node, graph, data)
    except (UnreadableError, ModelError) as reason:
        layer = _unsupported(node, graph, data, node.outputs[0], str(reason))
    except DAMAGE as error:
        layer = _unsupported(node, graph, data, node.outputs[0], f"damaged node: {type(error).__name__} {error}")
    units = [Unit(name, layer, data, node.outputs[0], (node.name or node.outputs[0],))]
    used = _used(graph)
    for output in node.outputs[1:]:
        if output and output in used:
            extra = _unsupported(node, graph, data, output, "an additional result")
            units.append(Unit(name, extra, data, output, (node.name or output,)))
            if layer.supported:
                main = _unsupported(node, graph, data, node.outputs[0], "more than one of its results is used")
                units[0] = Unit(name, main, data, node.outputs[0], units[0].sources)
    return units


def module_path(node: GraphNode, graph: Graph) -> str:
    """The torch module that a node's parameter belongs to, or "" when the parameter's name does not tell."""
    index = WEIGHT_INPUT.get(node.op)
    if index is None or index >= len(node.inputs):
        return ""
    for name in (node.inputs[index], graph.origins.get(node.inputs[index], "")):
        if name.endswith(".weight") and "::" not in name:
            return name.removesuffix(".weight")
    return ""


def _used(graph: Graph) -> set[str]:
    return {name for node in graph.nodes for name in node.inputs} | set(graph.outputs)


def _data_inputs(node: GraphNode, graph: Graph) -> tuple[str, ...]:
    return tuple(name for name in node.inputs if name and name not in graph.constants)


def _dtype(name: str, graph: Graph) -> str:
    dtype = graph.dtypes.get(name, "")
    return dtype if dtype in ITEM_BYTES else "float32"


def _unsupported(node: GraphNode, graph: Graph, data: tuple[str, ...], output: str, reason: str) -> Layer:
    shown = {key: value for key, value in node.attributes.items() if isinstance(value, (int, float, str, list))}
    attributes = ", ".join(f"{key}={value}" for key, value in sorted(shown.items()))
    if output not in graph.shapes:
        reason += "; its output shape is not known"
    domain = f"{node.domain}." if node.domain else ""
    return Layer(
        "unsupported",
        tuple(graph.shapes.get(name, ()) for name in data),
        graph.shapes.get(output, ()),
        dtype=_dtype(output, graph),
        detail=f"{domain}{node.op}({attributes}): {reason}",
    )


def _read(node: GraphNode, graph: Graph, data: tuple[str, ...]) -> Layer:
    if node.domain:
        raise UnreadableError("an operator of a foreign domain")
    for name in (*data, node.outputs[0]):
        if name not in graph.shapes:
            raise UnreadableError("a shape is not known")
    dtype = graph.dtypes.get(node.outputs[0], "")
    if dtype not in ITEM_BYTES:
        raise UnreadableError(f"data type {dtype or 'unknown'}")
    fields = read_fields(node, graph, data)
    if fields.get("residual"):
        data = data[:-1]
    return Layer(
        input_shapes=tuple(graph.shapes[name] for name in data),
        output_shape=graph.shapes[node.outputs[0]],
        dtype=dtype,
        **fields,
    )


def _split(node: GraphNode, graph: Graph) -> list[Unit]:
    """A runtime copies every part of a split: each is a slice."""
    used, data = _used(graph), _data_inputs(node, graph)
    shape = graph.shapes.get(node.inputs[0])
    start, units = 0, []
    for index, output in enumerate(node.outputs):
        part = graph.shapes.get(output)
        if shape is None or part is None:
            layer = _unsupported(node, graph, data, output, "a shape is not known")
        else:
            axis = positive_axis(node.attributes.get("axis", 0), shape)
            fields = slice_fields([(axis, start, 1)])
            start += part[axis]
            layer = Layer(input_shapes=(shape,), output_shape=part, dtype=_dtype(output, graph), **fields)
        if output in used:
            units.append(Unit(f"{node.name or output}:{index}", layer, data, output, (node.name or output,)))
    return units


def _gather(node: GraphNode, graph: Graph) -> list[Unit]:
    """One index of an axis, which then disappears: a slice, and the same memory in another shape."""
    data, output = _data_inputs(node, graph), node.outputs[0]
    shape, indices = graph.shapes[node.inputs[0]], graph.values[node.inputs[1]]
    if indices.ndim or node.inputs[0] in graph.constants:
        raise UnreadableError("gathers more than one index")
    axis = positive_axis(node.attributes.get("axis", 0), shape)
    kept = (*shape[:axis], 1, *shape[axis + 1 :])
    dtype = _dtype(output, graph)
    cut = Layer(
        input_shapes=(shape,),
        output_shape=kept,
        dtype=dtype,
        **slice_fields([(axis, int(indices) % shape[axis], 1)]),
    )
    squeezed = Layer("reshape", (kept,), graph.shapes[output], dtype=dtype)
    name, between = node.name or output, f"{output}:slice"
    return [
        Unit(name, cut, data, between, (name,)),
        Unit(f"{name}:squeeze", squeezed, (between,), output, (name,)),
    ]


_SEVERAL: Mapping[str, Callable[[GraphNode, Graph], list[Unit]]] = {"Split": _split, "Gather": _gather}
"""Operators that are several layers."""

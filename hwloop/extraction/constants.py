"""Computes what depends on shapes and constants only, such as the shape chains before a torch reshape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from hwloop.extraction.graph import Graph, GraphNode

SMALL = 4096
"""Constants up to this many elements are computed; of larger ones (weights) only the shape matters."""


def fold_constants(graph: Graph, skeleton: onnx.ModelProto) -> None:
    """Compute what depends on shapes and constants only; tell shape inference the small values."""
    opset = skeleton.opset_import
    for node, proto in zip(graph.nodes, skeleton.graph.node, strict=True):
        if node.outputs[0] in graph.values:
            continue
        values = _shape_value(node, graph) or _constant_value(node, proto, opset, graph)
        used = [name for name in node.inputs if name]
        if values is None and not (used and all(name in graph.constants for name in used)):
            continue
        graph.constants.update(name for name in node.outputs if name)
        origins = {graph.origins[name] for name in used if name in graph.origins}
        if len(origins) == 1:
            graph.origins[node.outputs[0]] = next(iter(origins))
        for name, value in (values or {}).items():
            graph.values[name] = value
            graph.shapes[name] = value.shape
            graph.dtypes[name] = value.dtype.name
    # A node whose results are known becomes a Constant, so that the list keeps its length and order.
    for index, node in enumerate(graph.nodes):
        if (
            len(node.outputs) == 1
            and node.outputs[0] in graph.values
            and skeleton.graph.node[index].op_type != "Constant"
        ):
            tensor = numpy_helper.from_array(graph.values[node.outputs[0]])
            skeleton.graph.node[index].CopyFrom(helper.make_node("Constant", [], list(node.outputs), value=tensor))


def _shape_value(node: GraphNode, graph: Graph) -> dict[str, NDArray[Any]] | None:
    if node.domain or node.op not in ("Shape", "Size") or not node.inputs or node.inputs[0] not in graph.shapes:
        return None
    shape = np.array(graph.shapes[node.inputs[0]], np.int64)
    if node.op == "Size":
        return {node.outputs[0]: np.array(shape.prod(), np.int64)}
    return {node.outputs[0]: shape[node.attributes.get("start", 0) : node.attributes.get("end", len(shape))]}


def _constant_value(
    node: GraphNode, proto: onnx.NodeProto, opset: Sequence[onnx.OperatorSetIdProto], graph: Graph
) -> dict[str, NDArray[Any]] | None:
    """The results of a standard node with small constant inputs, by ONNX's own reference implementation."""
    used = [name for name in node.inputs if name]
    if node.domain or (not used and node.op != "Constant") or any(name not in graph.values for name in used):
        return None
    if any(attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for attribute in proto.attribute):
        return None
    sizes = [np.prod(graph.shapes[name], dtype=np.int64) for name in node.outputs if name in graph.shapes]
    if any(size > SMALL for size in sizes):
        return None
    operator = helper.make_graph(
        [proto],
        "constant",
        [helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(used)],
        [helper.make_empty_tensor_value_info(name) for name in node.outputs if name],
    )
    try:
        evaluator = ReferenceEvaluator(helper.make_model(operator, opset_imports=list(opset)))
        results = evaluator.run(None, {name: graph.values[name] for name in used})
    except Exception:  # the reference implementation lacks some operators; the node then stays a node
        return None
    arrays = [np.asarray(result) for result in results]
    return dict(zip([name for name in node.outputs if name], arrays, strict=True))


def dtype_name(elem_type: int) -> str:
    """The numpy name of an ONNX element type."""
    try:
        return np.dtype(helper.tensor_dtype_to_np_dtype(elem_type)).name
    except (KeyError, TypeError):
        return f"onnx type {elem_type}"

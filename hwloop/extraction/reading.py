"""Reads ONNX models: shapes with the batch fixed, constants computed, what does nothing at inference dropped.

What is left is the data flow that a runtime would execute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, inliner, numpy_helper, shape_inference

from hwloop.errors import ModelError
from hwloop.extraction.constants import SMALL, dtype_name, fold_constants
from hwloop.extraction.graph import Graph, GraphNode

STANDARD_DOMAINS = ("", "ai.onnx")


def read_graph(model: bytes | Path | onnx.ModelProto, batch: int) -> Graph:
    """Read a model.

    Args:
        model: serialised, a file, or parsed.
        batch: size of a symbolic first axis of the inputs.

    Raises:
        ModelError: the file cannot be read, is no ONNX model, or an input has an unknown rank or a symbolic size
            other than the batch.
    """
    proto = load_onnx(model)
    try:
        return _read(proto, batch)
    except (ValueError, TypeError, KeyError, onnx.checker.ValidationError) as error:  # protobuf, numpy and onnx helpers
        raise ModelError(f"the ONNX model is damaged: {' '.join(str(error).split())[:200]}") from error


def load_onnx(model: bytes | Path | onnx.ModelProto, label: str = "the ONNX model") -> onnx.ModelProto:
    """Parse a model.

    Args:
        model: serialised, a file, or parsed already.
        label: what errors call a serialised one.

    Raises:
        ModelError: the file cannot be read or is no ONNX model.
    """
    if isinstance(model, onnx.ModelProto):
        return model
    name = label if isinstance(model, bytes) else str(model)
    try:
        return onnx.load_model_from_string(model) if isinstance(model, bytes) else onnx.load_model(model)
    except OSError as error:
        raise ModelError(f"{name} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # protobuf's own errors, which have no common public base
        raise ModelError(f"{name} is not an ONNX model: {' '.join(str(error).split())[:200]}") from None


def _read(proto: onnx.ModelProto, batch: int) -> Graph:
    if proto.functions:
        proto = inliner.inline_local_functions(proto)
    initializers = {tensor.name: tensor for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in initializers]
    if not inputs or not proto.graph.node:
        raise ModelError("the ONNX model has no input or no node: nothing to measure")
    fixed = [_fixed_input(value, batch) for value in inputs]
    nodes = [_read_node(node) for node in proto.graph.node]
    graph = Graph(nodes, tuple(value.name for value in inputs), ())
    _check_order(graph, initializers)
    for name, tensor in initializers.items():
        graph.constants.add(name)
        graph.origins[name] = name
        graph.shapes[name] = tuple(tensor.dims)
        graph.dtypes[name] = dtype_name(tensor.data_type)
        if int(np.prod(tensor.dims)) <= SMALL:
            graph.values[name] = numpy_helper.to_array(tensor)

    symbols = {
        dim.dim_param: batch for value in inputs for dim in value.type.tensor_type.shape.dim[:1] if dim.dim_param
    }
    skeleton = _skeleton(proto, fixed, symbols, graph)
    known = -1
    while known < len(graph.values):  # each round of constants can reveal shapes, which reveal constants
        known = len(graph.values)
        _infer_shapes(skeleton, graph)
        fold_constants(graph, skeleton)
    _drop_idle(graph, [value.name for value in proto.graph.output])
    return graph


def _fixed_input(value: onnx.ValueInfoProto, batch: int) -> onnx.ValueInfoProto:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        raise ModelError(f"input {value.name!r} has no known rank; export the model with a fixed input shape")
    shape = []
    symbol = tensor.shape.dim[0].dim_param if tensor.shape.dim else ""
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.HasField("dim_value") and dim.dim_value > 0:
            if axis == 0 and len(tensor.shape.dim) > 1 and dim.dim_value != batch:
                raise ModelError(
                    f"input {value.name!r} has a fixed batch of {dim.dim_value}, not {batch}; "
                    f"export the model with a symbolic batch or ask for batch={dim.dim_value}"
                )
            shape.append(dim.dim_value)
        elif axis == 0 or (symbol and dim.dim_param == symbol):
            shape.append(batch)
        else:
            label = dim.dim_param or "?"
            raise ModelError(
                f"input {value.name!r} has the symbolic size {label!r} at axis {axis}; fix it before export"
            )
    return helper.make_tensor_value_info(value.name, tensor.elem_type, shape)


def _read_node(node: onnx.NodeProto) -> GraphNode:
    texts = (
        node.op_type,
        node.domain,
        node.name,
        *node.input,
        *node.output,
        *(attribute.name for attribute in node.attribute),
    )
    if not node.output or not all(isinstance(text, str) for text in texts):  # protobuf gives bytes for broken text
        raise ValueError(f"node {node.name!r} has no output or unreadable names")
    attributes = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif isinstance(value, onnx.TensorProto):
            value = numpy_helper.to_array(value)
        attributes[attribute.name] = value
    domain = "" if node.domain in STANDARD_DOMAINS else node.domain
    return GraphNode(node.op_type, domain, node.name, tuple(node.input), tuple(node.output), attributes)


def _check_order(graph: Graph, initializers: Mapping[str, onnx.TensorProto]) -> None:
    seen = {*graph.inputs, *initializers, ""}
    for node in graph.nodes:
        for name in node.inputs:
            if name not in seen:
                raise ModelError(
                    f"the ONNX model is damaged: {node.op} {node.name!r} reads {name!r}, which nothing makes"
                )
        seen.update(node.outputs)


def _skeleton(
    proto: onnx.ModelProto, fixed: Sequence[onnx.ValueInfoProto], symbols: Mapping[str, int], graph: Graph
) -> onnx.ModelProto:
    """The model without the weights' data, for shape inference: large initializers become inputs."""
    large = [
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in proto.graph.initializer
        if tensor.name not in graph.values
    ]
    small = [tensor for tensor in proto.graph.initializer if tensor.name in graph.values]
    foreign = {name for node in graph.nodes if node.domain for name in node.outputs}
    told = [_with_symbols(value, symbols) for value in proto.graph.value_info if value.name in foreign]
    outputs = [
        _with_symbols(value, symbols) if value.name in foreign else helper.make_empty_tensor_value_info(value.name)
        for value in proto.graph.output
    ]
    skeleton = helper.make_graph(
        proto.graph.node, "skeleton", [*fixed, *large], outputs, initializer=small, value_info=told
    )
    return helper.make_model(skeleton, opset_imports=proto.opset_import, ir_version=proto.ir_version)


def _with_symbols(value: onnx.ValueInfoProto, symbols: Mapping[str, int]) -> onnx.ValueInfoProto:
    """What the file says about a foreign operator's output, the batch filled in."""
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    for dim in copy.type.tensor_type.shape.dim:
        if dim.dim_param in symbols:
            dim.dim_value = symbols[dim.dim_param]
    return copy


def _infer_shapes(skeleton: onnx.ModelProto, graph: Graph) -> None:
    try:
        inferred = shape_inference.infer_shapes(skeleton, strict_mode=False, data_prop=True)
    except (shape_inference.InferenceError, onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise ModelError(f"shapes of the ONNX model cannot be inferred: {' '.join(str(error).split())[:200]}") from None
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        tensor = value.type.tensor_type
        if tensor.elem_type:
            graph.dtypes[value.name] = dtype_name(tensor.elem_type)
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            graph.shapes[value.name] = tuple(dim.dim_value for dim in tensor.shape.dim)


def _drop_idle(graph: Graph, outputs: Sequence[str]) -> None:
    """Remove constants, nodes that do nothing at inference, and nodes whose results nobody uses."""
    alias: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        if all(name in graph.constants for name in node.outputs if name):
            continue
        renamed = GraphNode(
            node.op,
            node.domain,
            node.name,
            tuple(alias.get(name, name) for name in node.inputs),
            node.outputs,
            node.attributes,
        )
        if _does_nothing(renamed, graph):
            alias[node.outputs[0]] = renamed.inputs[0]
        else:
            nodes.append(renamed)
    wanted = [alias.get(name, name) for name in outputs if alias.get(name, name) not in graph.constants]
    graph.outputs = tuple(dict.fromkeys(wanted))
    needed = set(graph.outputs)
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    graph.nodes = kept[::-1]


def _does_nothing(node: GraphNode, graph: Graph) -> bool:
    if node.domain:
        return False
    source, result = node.inputs[0] if node.inputs else "", node.outputs[0]
    same_shape = source in graph.shapes and graph.shapes[source] == graph.shapes.get(result)
    if node.op == "Identity":
        return True
    if node.op == "Dropout":
        training = graph.values.get(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.array(False)
        return training is not None and not training.any()
    if node.op == "Cast":
        return graph.dtypes.get(source) is not None and graph.dtypes.get(source) == graph.dtypes.get(result)
    if node.op == "Pad":
        return same_shape
    if node.op == "Slice" and same_shape:
        steps = graph.values.get(node.inputs[4]) if len(node.inputs) > 4 else np.array(1)
        return steps is not None and bool((steps > 0).all())
    return False

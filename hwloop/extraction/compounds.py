"""Activations that torch spells out in several ONNX nodes and a runtime executes as one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from hwloop.extraction.graph import Graph, GraphNode


def join_compounds(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Replace x*sigmoid(x) by Silu and x/sqrt(2), erf, +1, *x, *0.5 by Gelu, in place.

    Only when the values in between are used nowhere else.

    Returns:
        The names of the nodes that each joined node stands for, by its output.
    """
    makers = {node.outputs[0]: node for node in graph.nodes if len(node.outputs) == 1}
    uses = Counter(name for node in graph.nodes for name in node.inputs)
    uses.update(graph.outputs)
    joined: dict[str, list[GraphNode]] = {}
    for node in graph.nodes:
        parts = _silu(node, makers, uses) or _gelu(node, graph, makers, uses)
        if parts:
            joined[node.outputs[0]] = parts
    gone = {part.outputs[0] for parts in joined.values() for part in parts[:-1]}
    nodes = []
    for node in graph.nodes:
        if node.outputs[0] in joined:
            parts = joined[node.outputs[0]]
            op = "Silu" if len(parts) == 2 else "Gelu"
            nodes.append(replace(node, op=op, inputs=parts[0].inputs[:1], attributes={}))
        elif node.outputs[0] not in gone:
            nodes.append(node)
    graph.nodes = nodes
    return {output: tuple(part.name for part in parts) for output, parts in joined.items()}


def _silu(node: GraphNode, makers: dict[str, GraphNode], uses: Counter[str]) -> list[GraphNode]:
    if node.op != "Mul" or node.domain:
        return []
    for value, gate in (node.inputs, node.inputs[::-1]):
        maker = makers.get(gate)
        if maker and maker.op == "Sigmoid" and maker.inputs[0] == value and uses[gate] == 1:
            return [maker, node]
    return []


def _gelu(node: GraphNode, graph: Graph, makers: dict[str, GraphNode], uses: Counter[str]) -> list[GraphNode]:
    """Walk back from the last multiplication: 0.5 * (x * (1 + erf(x / sqrt(2))))."""
    half = _by_constant(node, "Mul", 0.5, graph)
    product = makers.get(half)
    if not product or product.op != "Mul" or uses[half] != 1:
        return []
    for value, gate in (product.inputs, product.inputs[::-1]):
        plus = makers.get(gate)
        inner = _by_constant(plus, "Add", 1.0, graph) if plus and uses[gate] == 1 else ""
        erf = makers.get(inner)
        if not plus or not erf or erf.op != "Erf" or uses[inner] != 1 or uses[erf.inputs[0]] != 1:
            continue
        scaled = makers.get(erf.inputs[0])
        if scaled and _by_constant(scaled, "Div", 2**0.5, graph) == value:
            return [scaled, erf, plus, product, node]
    return []


def _by_constant(node: GraphNode, op: str, value: float, graph: Graph) -> str:
    """The data input of `node` when it is `op` with the scalar constant `value`; else ""."""
    if node.op != op or node.domain or len(node.inputs) != 2:
        return ""
    for data, constant in (node.inputs, node.inputs[::-1]):
        array = graph.values.get(constant)
        if array is not None and array.size == 1 and np.allclose(array, value, rtol=1e-4):
            return data if data not in graph.constants else ""
    return ""

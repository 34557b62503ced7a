"""Networks from ONNX models and torch modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from hwloop.errors import ModelError
from hwloop.extraction.compounds import join_compounds
from hwloop.extraction.fusion import ONNXRUNTIME_X86, FusionRules, fuse
from hwloop.extraction.graph import Graph
from hwloop.extraction.reading import read_graph
from hwloop.extraction.translate import translate
from hwloop.extraction.unit import Unit
from hwloop.layers import Network, Node

if TYPE_CHECKING:
    from torch import nn


def network_from_onnx(
    model: bytes | Path | onnx.ModelProto, *, batch: int = 1, rules: FusionRules = ONNXRUNTIME_X86
) -> Network:
    """The layers that a runtime executes for an ONNX model.

    Args:
        model: serialised, a file, or parsed.
        batch: size of a symbolic first axis.
        rules: what the runtime fuses.

    Returns:
        The network. Nodes are named by torch module path where the parameters carry it ("layer1.0.conv1.weight"),
        else by ONNX node; a second node of one module gets the suffix "#2". Operators that hwloop cannot read are
        ``unsupported`` layers, see `Network.unsupported`.

    Raises:
        ModelError: the model cannot be read, or its inputs have no fixed shape apart from the batch.
    """
    graph, units = units_of(model, batch)
    return assemble(fuse(units, graph.outputs, rules), graph)


def network_from_torch(
    module: nn.Module, input_shape: tuple[int, ...], *, rules: FusionRules = ONNXRUNTIME_X86
) -> Network:
    """The layers that a runtime executes for a torch module, batch 1; nodes are named by module path.

    Args:
        module: left as it was.
        input_shape: of one example, without the batch.
        rules: what the runtime fuses.

    Raises:
        ModelError: torch cannot export the module.
    """
    from hwloop.extraction.export import export_onnx  # not above: an ONNX file is read without torch

    return network_from_onnx(export_onnx(module, input_shape, fold=False), rules=rules)


def units_of(model: bytes | Path | onnx.ModelProto, batch: int = 1) -> tuple[Graph, list[Unit]]:
    """The layers of an ONNX model before any is fused, and the graph that they are from; see `network_from_onnx`."""
    graph = read_graph(model, batch)
    parts = join_compounds(graph)
    return graph, [_with_sources(unit, parts) for node in graph.nodes for unit in translate(node, graph)]


def _with_sources(unit: Unit, parts: dict[str, tuple[str, ...]]) -> Unit:
    return replace(unit, sources=parts[unit.output]) if unit.output in parts else unit


def assemble(units: Sequence[Unit], graph: Graph) -> Network:
    """The network of fused units: tensors get numbers, names become unique.

    Raises:
        ModelError: there are no units.
    """
    if not units:
        raise ModelError("the ONNX model computes nothing from its input")
    index = {name: -1 - at for at, name in enumerate(graph.inputs)}
    index |= {unit.output: at for at, unit in enumerate(units)}
    taken: set[str] = set()
    nodes = []
    for unit in units:
        name, count = unit.name, 1
        while name in taken:
            count += 1
            name = f"{unit.name}#{count}"
        taken.add(name)
        nodes.append(Node(name, unit.layer, tuple(index[source] for source in unit.inputs), unit.sources))
    return Network(
        tuple(nodes),
        tuple(graph.shapes[name] for name in graph.inputs),
        tuple(index[name] for name in graph.outputs),
    )

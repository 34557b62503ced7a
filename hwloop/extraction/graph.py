"""An ONNX graph as plain data: what is left of a model once everything that can be worked out is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

Shape = tuple[int, ...]


@dataclass(frozen=True)
class GraphNode:
    """One ONNX node: its operator, name, tensors and attributes (bytes decoded, tensors as arrays)."""

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass
class Graph:
    """The data flow of a model.

    Attributes:
        nodes: in topological order; every one depends on the network's input.
        inputs: names of the network's inputs.
        outputs: names of the tensors that the network returns and that depend on its inputs.
        shapes: of all tensors whose shape could be inferred.
        dtypes: numpy names of the tensors' types ("float32"), where known.
        constants: names of all constants.
        values: the small ones.
        origins: for a constant computed from one initializer, that initializer's name.
    """

    nodes: list[GraphNode]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: dict[str, Shape] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)
    values: dict[str, NDArray[Any]] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

"""A pruned network with its pruned graphs as one module that a runtime exports, and what it costs on a device.

The edges that remain are constants of the program, normalised already: an inference takes the features of the nodes
and gives the logits. Weights that are cut are zeros in dense matrices, as no CPU runtime gains from scattered zeros.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hwloop.errors import ModelError
from hwloop.graphs.graph import Graph, GraphSet, SparseRows, union
from hwloop.graphs.masks import Masks
from hwloop.graphs.messages import Edges, Product
from hwloop.graphs.networks import GatLayer, GcnLayer, GinLayer, GraphNetwork
from hwloop.measurement import Bench, Measurement, Subject
from hwloop.runtimes import Artifact, Runtime

MEASURED_GRAPHS = 64
"""Of the test split, in one inference, where whole graphs are classified: one alone takes microseconds."""


class Deployed(nn.Module):
    """A network under its masks on one graph, or on several as one.

    Its input is the matrix of node features, (1, nodes, features); of sparse features the values that are not zero,
    (1, nnz): where they stand belongs to the graph.
    """

    def __init__(self, network: GraphNetwork, masks: Masks, graph: Graph) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        with torch.no_grad():
            own = dict(self.network.named_parameters())
            for name, mask in masks.items():
                own[name].mul_(mask)
            edges = self.network.edges(graph)
        sparse = graph.features if isinstance(graph.features, SparseRows) else None
        self.sources: Tensor
        self.targets: Tensor
        self.offsets: Tensor
        self.graph_offsets: Tensor
        self.weights: Tensor | None
        self.self_weights: Tensor | None
        self.columns: Tensor | None
        self.rows: Tensor | None
        constants = {
            "sources": edges.sources,
            "targets": edges.targets,
            "offsets": edges.offsets,
            "graph_offsets": graph.graph_offsets,
            "weights": edges.weights,
            "self_weights": edges.self_weights,
            "columns": sparse.columns if sparse else None,
            "rows": sparse.offsets if sparse else None,
        }
        for name, value in constants.items():
            # torch does not export a buffer that is None.
            if value is None:
                setattr(self, name, None)
            else:
                self.register_buffer(name, value)
        self._width = sparse.width if sparse else 0
        values = graph.features.values if isinstance(graph.features, SparseRows) else graph.features
        self.input_shape = tuple(values.shape)

    def forward(self, given: Tensor) -> Tensor:
        """Logits of the nodes, or of the graphs."""
        features = given[0]
        edges = Edges(self.sources, self.targets, self.offsets, self.weights, self.self_weights)
        if self.columns is not None and self.rows is not None:
            sparse = SparseRows(features, self.columns, self.rows, self._width)
            logits: Tensor = self.network(sparse, edges, self.graph_offsets)
        else:
            logits = self.network(features, edges, self.graph_offsets)
        return logits


def deployed_graph(data: GraphSet) -> Graph:
    """The graph that is measured: that of the nodes, or the first graphs of the test split as one."""
    if data.level == "node":
        return data.graphs[0]
    return union([data.graphs[int(index)] for index in data.test[:MEASURED_GRAPHS]])


def artifact_of(deployed: Deployed, runtime: Runtime, label: str) -> Artifact:
    """What the device loads.

    Raises:
        ModelError: the runtime cannot have it; only torch sums messages over sparse edges.
    """
    if runtime.name != "torch":
        raise ModelError(f"{label}: {runtime.name} has no sparse message passing here; measure with the torch runtime")
    return runtime.module(deployed, deployed.input_shape)


def measure_deployed(
    deployed: Mapping[str, Deployed], runtime: Runtime, bench: Bench, description: str
) -> Mapping[str, Measurement]:
    """Measure networks on the bench's device, each under its name.

    Raises:
        ModelError: the runtime cannot have them.
        DeviceError: the device was lost for good; what was measured is in the bench's store.
    """
    subjects = [Subject(name, artifact_of(one, runtime, name)) for name, one in deployed.items()]
    return bench.measure(subjects, description)


def state_of(network: GraphNetwork, state: Mapping[str, Tensor]) -> GraphNetwork:
    """A copy of a network with other weights."""
    other = copy.deepcopy(network)
    other.load_state_dict(dict(state))
    return other


def macs_of(network: GraphNetwork, graph: Graph) -> int:
    """Multiply-accumulates of an inference as it is executed: all weights of dense products, edges that remain."""
    counted = 0

    def product(layer: Any, given: Any, made: Any) -> None:
        nonlocal counted
        values = given[0]
        if isinstance(layer, Product):
            entries = len(values.values) if isinstance(values, SparseRows) else values.numel()
            counted += entries * layer.weight.shape[1]
        else:
            counted += made.numel() * layer.in_features

    def messages(layer: Any, *_: Any) -> None:
        nonlocal counted
        counted += graph.edges * int(layer.product.weight.shape[1])

    hooks = [
        module.register_forward_hook(messages if isinstance(module, GcnLayer | GinLayer | GatLayer) else product)
        for module in network.modules()
        if isinstance(module, GcnLayer | GinLayer | GatLayer | Product | nn.Linear)
    ]
    try:
        with torch.no_grad():
            network.on(graph)
    finally:
        for hook in hooks:
            hook.remove()
    return counted

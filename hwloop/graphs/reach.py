"""What the logits of some nodes depend on: the nodes and edges that each layer needs, and no others.

Of a citation network a step of training judges 140 nodes of 2,708. The last layer makes those alone, the one before it
their neighbours, and so on down: the same numbers and gradients for a fraction of the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hwloop.graphs.graph import Features, Graph, by_column, take
from hwloop.graphs.messages import Edges


@dataclass(frozen=True)
class Reach:
    """The part of a graph on which the logits of some nodes depend.

    Attributes:
        features: of the nodes that the first layer takes.
        layers: for each layer the edges that it needs, without weights.
        positions: for each layer, (edges,) int64: where they are among the graph's edges.
        nodes: for each layer, (outputs,) int64: which of the graph's nodes it makes.
    """

    features: Features
    layers: tuple[Edges, ...]
    positions: tuple[Tensor, ...]
    nodes: tuple[Tensor, ...]

    def edges(self, whole: Edges) -> Sequence[Edges]:
        """For each layer its part of the weighted edges of the whole graph."""

        def part(weights: Tensor | None, chosen: Tensor) -> Tensor | None:
            return None if weights is None else weights[chosen]

        parts = zip(self.layers, self.positions, self.nodes, strict=True)
        return [
            replace(one, weights=part(whole.weights, kept), self_weights=part(whole.self_weights, nodes))
            for one, kept, nodes in parts
        ]


def reach_of(graph: Graph, rows: Tensor, layers: int) -> Reach:
    """What the logits of the nodes `rows`, ascending, depend on after so many layers of messages."""
    found: list[tuple[Edges, Tensor, Tensor]] = []
    outputs = rows
    for _ in range(layers):
        row = torch.full((graph.nodes,), -1)
        row[outputs] = torch.arange(len(outputs))
        kept = (row[graph.targets] >= 0).nonzero()[:, 0]
        targets = row[graph.targets[kept]]
        inputs = torch.unique(torch.cat([outputs, graph.sources[kept]]))
        offsets = torch.searchsorted(targets, torch.arange(len(outputs)))
        sources, own = (torch.searchsorted(inputs, one) for one in (graph.sources[kept], outputs))
        back = by_column(targets, sources, len(inputs))
        found.insert(0, (Edges(sources, targets, offsets, own=own, back=back), kept, outputs))
        outputs = inputs
    edges, positions, nodes = zip(*found, strict=True)
    return Reach(take(graph.features, outputs), edges, positions, nodes)

"""ICPG's masker: a small GCN that scores every edge of any graph (Sui et al., JCST 2024, section 3)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from hwloop.graphs.graph import Graph
from hwloop.graphs.messages import gcn_edges
from hwloop.graphs.networks import GcnLayer


class Masker(nn.Module):
    """Node embeddings by a GCN, then sigmoid(w [h_source, h_target] + b) for each edge, the paper's `concat_mlp`.

    It has no parameter per edge: what it learnt scores the edges of graphs that it has never seen.
    """

    def __init__(self, features: int, hidden: int, layers: int) -> None:
        super().__init__()
        widths = [features, *[hidden] * layers]
        self.layers = nn.ModuleList(GcnLayer(a, b) for a, b in pairwise(widths))
        self.of_source = nn.Linear(hidden, 1)
        self.of_target = nn.Linear(hidden, 1, bias=False)

    def forward(self, graph: Graph) -> Tensor:
        """(edges,) scores in (0, 1)."""
        edges = gcn_edges(graph)
        values = graph.features
        for index, layer in enumerate(self.layers):
            values = layer(functional.relu(values) if isinstance(values, Tensor) and index else values, edges)
        source, target = self.of_source(values)[:, 0], self.of_target(values)[:, 0]
        return torch.sigmoid(source[graph.sources] + target[graph.targets])

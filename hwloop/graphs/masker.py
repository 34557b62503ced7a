"""ICPG's masker: a small GCN that scores every edge of any graph (Sui et al., JCST 2024, section 3)."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from hwloop.graphs.graph import Features, Graph
from hwloop.graphs.messages import add_self, drop, gcn_edges, product, propagate
from hwloop.graphs.networks import GcnLayer


class Masker(nn.Module):
    """Node embeddings by a GCN, then sigmoid(w [h_source, h_target] + b) for each edge, the paper's `concat_mlp`.

    It has no parameter per edge: what it learnt scores the edges of graphs that it has never seen.

    Args:
        features: of a node.
        hidden: channels of the embeddings.
        layers: that pass messages.
        dropout: between layers.
    """

    def __init__(self, features: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        widths = [features, *[hidden] * layers]
        self.layers = nn.ModuleList(GcnLayer(a, b) for a, b in pairwise(widths))
        self.reader = nn.Linear(2 * hidden, 1)
        self.dropout = dropout

    def forward(self, graph: Graph) -> Tensor:
        """(edges,) scores in [0, 1], by which messages are multiplied."""
        return self.logits(graph).sigmoid()

    def logits(self, graph: Graph) -> Tensor:
        """(edges,) by which edges are ranked: of a trained masker many scores are 0 or 1 to the last digit."""
        edges = gcn_edges(graph)
        before, last = self.layers[:-1], cast("GcnLayer", self.layers[-1])
        values: Features = graph.features
        for layer in before:
            values = drop(functional.relu(layer(values, edges)), self.dropout, self.training)
        # Nothing bends between the last layer and the reader: their product first leaves two channels for messages.
        readers = self.reader.weight.reshape(2, -1).T
        read = product(values, last.product.weight @ readers)
        read = add_self(propagate(read, edges), read, edges) + last.bias @ readers
        return read[graph.sources, 0] + read[graph.targets, 1] + self.reader.bias

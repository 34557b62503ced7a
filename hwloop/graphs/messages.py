"""Message passing by rows of a compressed matrix: gather, scale and sum in one kernel, nothing stored per edge.

`embedding_bag` is that kernel: the bag of a node are its sources. On a CPU it is twenty times as fast as a gather
followed by `index_add`, and is an ATen operator that the agent's torch runtime calls, so that what is trained is what
is measured. Gradients are summed by the same kernel over the entries by columns, three times as fast as torch's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hwloop.graphs.graph import ByColumn, Features, Graph, SparseRows


@dataclass(frozen=True)
class Edges:
    """The edges of a graph, as layers take them: from rows that a layer is given to rows that it makes.

    Attributes:
        sources: (edges,) int64, of the rows that are given.
        targets: (edges,) int64, ascending, of the rows that are made.
        offsets: (made,) int64: where the edges into each row begin.
        weights: (edges,) of each message; None: 1. Those of a GCN are normalised (see `gcn_edges`).
        self_weights: (made,) of what each node sends itself; None: 1.
        own: (made,) int64: each node's row among the given ones; None: a row is made of each given one, in order.
        back: the edges by their sources, for gradients; None: torch finds them.
    """

    sources: Tensor
    targets: Tensor
    offsets: Tensor
    weights: Tensor | None = None
    self_weights: Tensor | None = None
    own: Tensor | None = None
    back: ByColumn | None = None


def plain_edges(graph: Graph, scores: Tensor | None = None) -> Edges:
    """The edges with (edges,) scores in [0, 1] as their weights, as GIN and GAT take them."""
    return Edges(graph.sources, graph.targets, graph.edge_offsets, scores, back=_back(graph))


def gcn_edges(graph: Graph, scores: Tensor | None = None) -> Edges:
    """The edges with symmetrically normalised weights, self-loops of weight 1 included (Kipf and Welling 2017, (8)).

    The normalisation comes after the scores: a score of 0 is an edge that is not there.
    """
    weights = torch.ones(graph.edges) if scores is None else scores
    degree = torch.ones(graph.nodes).scatter_add(0, graph.targets, weights)
    root = degree.rsqrt()
    normalised = root[graph.sources] * weights * root[graph.targets]
    return Edges(graph.sources, graph.targets, graph.edge_offsets, normalised, 1 / degree, back=_back(graph))


def _back(graph: Graph) -> ByColumn | None:
    return graph.back if torch.is_grad_enabled() else None


class _WeightedSum(torch.autograd.Function):
    """`embedding_bag` of which the gradients are found by columns."""

    @staticmethod
    def forward(
        context: Any, values: Tensor, weights: Tensor | None, columns: Tensor, offsets: Tensor, back: ByColumn
    ) -> Tensor:
        context.save_for_backward(values, weights, columns, offsets)
        context.back = back
        return functional.embedding_bag(columns, values, offsets, mode="sum", per_sample_weights=weights)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Any:
        values, weights, columns, offsets = context.saved_tensors
        back, gradient = context.back, gradient.contiguous()
        of_values = of_weights = None
        if context.needs_input_grad[0]:
            by_columns = None if weights is None else weights[back.order]
            of_values = functional.embedding_bag(
                back.rows, gradient, back.offsets, mode="sum", per_sample_weights=by_columns
            )
        if context.needs_input_grad[1]:
            of_weights = torch.ops.aten._embedding_bag_per_sample_weights_backward(
                gradient, values, columns, offsets, back.rows_by_row, 0
            )
        return of_values, of_weights, None, None, None


def _weighted_sum(
    values: Tensor, weights: Tensor | None, columns: Tensor, offsets: Tensor, back: ByColumn | None
) -> Tensor:
    """(rows, channels): for each row of a compressed matrix the weighted sum of the rows of `values` that it names."""
    if back is None:
        return functional.embedding_bag(columns, values, offsets, mode="sum", per_sample_weights=weights)
    # torch leaves Function.apply untyped
    found: Tensor = _WeightedSum.apply(values, weights, columns, offsets, back)  # type: ignore[no-untyped-call]
    return found


def own_rows(values: Tensor, edges: Edges) -> Tensor:
    """(made, ...): of each node that is made its own row of `values`."""
    return values if edges.own is None else values[edges.own]


def propagate(values: Tensor, edges: Edges) -> Tensor:
    """(made, channels): each node's weighted sum of the rows of `values` that its edges come from."""
    return _weighted_sum(values, edges.weights, edges.sources, edges.offsets, edges.back)


def add_self(summed: Tensor, values: Tensor, edges: Edges) -> Tensor:
    """Add what each node sends itself."""
    mine = own_rows(values, edges)
    return summed + (mine if edges.self_weights is None else mine * edges.self_weights[:, None])


def readout(values: Tensor, graph_offsets: Tensor) -> Tensor:
    """(graphs, channels): the mean over the nodes of each graph."""
    nodes = torch.arange(len(values), device=values.device)
    return functional.embedding_bag(nodes, values, graph_offsets, mode="mean")


def attention(logits: Tensor, own: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
    """Softmax over the edges into each node and the node itself, weights counted in.

    Args:
        logits: (edges, heads).
        own: (made, heads): of each node's message to itself.
        edges: their weights multiply the exponentials, so that 0 is an edge that is not there.

    Returns:
        (edges, heads) and (made, heads) coefficients.
    """
    into = edges.targets[:, None].expand_as(logits)
    largest = own.detach().scatter_reduce(0, into, logits.detach(), "amax")
    parts = (logits - largest[edges.targets]).exp()
    if edges.weights is not None:
        parts = parts * edges.weights[:, None]
    mine = (own - largest).exp()
    total = mine.scatter_add(0, into, parts)
    return parts / total[edges.targets], mine / total


def propagate_heads(values: Tensor, coefficients: Tensor, edges: Edges) -> Tensor:
    """(made, heads, channels): `propagate` with coefficients (edges, heads) for each head of (given, heads, channels).

    The heads are laid one after the other, as if they were graphs of their own.
    """
    given, heads, channels = values.shape
    shift = torch.arange(heads, device=values.device)[:, None]
    one = Edges(
        (edges.sources[None, :] + shift * given).reshape(-1),
        edges.targets,
        (edges.offsets[None, :] + shift * edges.sources.shape[0]).reshape(-1),
        coefficients.T.reshape(-1),
    )
    flat = values.permute(1, 0, 2).reshape(heads * given, channels)
    return propagate(flat, one).reshape(heads, -1, channels).permute(1, 0, 2)


def product(features: Features, weight: Tensor) -> Tensor:
    """(nodes, channels): node features times a matrix (features, channels)."""
    if isinstance(features, SparseRows):
        # A program that is exported has no gradients, and could not hold the search for what they need.
        back = features.back if torch.is_grad_enabled() and weight.requires_grad else None
        return _weighted_sum(weight, features.values, features.columns, features.offsets, back)
    # Rows of a few outputs are slow to make and to differentiate by a matrix that is laid out the other way.
    return functional.linear(features, weight.T.contiguous())


class Product(nn.Module):
    """Node features times a matrix (features, channels), dense or sparse features alike; no bias of its own."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, features: Features) -> Tensor:
        """(nodes, channels)."""
        return product(features, self.weight)


def drop(values: Tensor, share: float, training: bool) -> Tensor:
    """Dropout; torch's own takes several times as long to draw a number on many CPUs."""
    if not (training and share):
        return values
    return values * (torch.rand_like(values) >= share) / (1 - share)


def drop_features(features: Features, share: float, training: bool) -> Features:
    """Dropout; of sparse features, of their values."""
    if isinstance(features, SparseRows):
        return features.with_values(drop(features.values, share, training)) if training and share else features
    return drop(features, share, training)

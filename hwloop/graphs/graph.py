"""Graphs in memory: edges sorted by their targets, so that messages are summed by rows of a compressed matrix."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from hwloop.errors import DataError

Level = Literal["node", "graph"]
"""What is classified: the nodes of one graph, or whole graphs."""


@dataclass(frozen=True)
class ByColumn:
    """The entries of a matrix that is compressed by rows, ordered by their columns: what gradients are summed by.

    Attributes:
        order: (entries,) int64: from the order by rows.
        rows: (entries,) int64, in the order by columns.
        offsets: (columns,) int64: where each column begins.
        rows_by_row: (entries,) int64: the rows in the order by rows.
    """

    order: Tensor
    rows: Tensor
    offsets: Tensor
    rows_by_row: Tensor


def by_column(rows: Tensor, columns: Tensor, width: int) -> ByColumn:
    """The entries at `rows`, ascending, and `columns` of a matrix of so many columns."""
    order = torch.argsort(columns, stable=True)
    return ByColumn(order, rows[order], torch.searchsorted(columns[order], torch.arange(width)), rows)


@dataclass(frozen=True)
class SparseRows:
    """A matrix of node features that is mostly zero, by rows.

    Attributes:
        values: (nnz,) float32.
        columns: (nnz,) int64.
        offsets: (rows,) int64: where each row begins in `values`.
        width: columns.
    """

    values: Tensor
    columns: Tensor
    offsets: Tensor
    width: int

    @cached_property
    def back(self) -> ByColumn:
        """The same entries by columns."""
        return by_column(rows_of(self.offsets, len(self.values)), self.columns, self.width)

    def with_values(self, values: Tensor) -> SparseRows:
        """The matrix with other values at the same places."""
        other = replace(self, values=values)
        other.__dict__["back"] = self.back  # the places are the same: they are found once
        return other

    def dense(self) -> Tensor:
        """The (rows, width) matrix."""
        rows = rows_of(self.offsets, len(self.values))
        whole = torch.zeros(len(self.offsets), self.width)
        return whole.index_put((rows, self.columns), self.values, accumulate=True)


Features = Tensor | SparseRows
"""(nodes, features) float32, dense or by rows."""


def rows_of(offsets: Tensor, count: int) -> Tensor:
    """(count,) int64: the row of every entry of a compressed matrix whose rows begin at `offsets`."""
    ends = torch.cat([offsets[1:], torch.tensor([count])])
    return torch.repeat_interleave(torch.arange(len(offsets)), ends - offsets)


def take(features: Features, nodes: Tensor) -> Features:
    """The rows of some nodes, in their order."""
    if isinstance(features, Tensor):
        return features[nodes]
    ends = torch.cat([features.offsets[1:], torch.tensor([len(features.values)])])
    lengths = (ends - features.offsets)[nodes]
    offsets = torch.cumsum(lengths, 0) - lengths
    entries = torch.arange(int(lengths.sum())) + torch.repeat_interleave(features.offsets[nodes] - offsets, lengths)
    return SparseRows(features.values[entries], features.columns[entries], offsets, features.width)


def node_count(features: Features) -> int:
    """Rows of a feature matrix."""
    return len(features.offsets) if isinstance(features, SparseRows) else len(features)


@dataclass(frozen=True)
class Graph:
    """A graph; several graphs as one, disjoint, where `graph_offsets` says so.

    Attributes:
        features: of the nodes.
        sources: (edges,) int64: where each message comes from.
        targets: (edges,) int64, ascending: where it goes. No edge joins a node to itself: layers add that themselves.
        labels: (nodes,) int64, or (graphs,) where whole graphs are classified.
        graph_offsets: (graphs,) int64: the first node of each graph.
    """

    features: Features
    sources: Tensor
    targets: Tensor
    labels: Tensor
    graph_offsets: Tensor

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return node_count(self.features)

    @property
    def edges(self) -> int:
        """Number of edges; one in each direction counts twice."""
        return len(self.sources)

    @property
    def edge_counts(self) -> list[int]:
        """Of each graph: its number of edges, which follow one another."""
        of_graph = torch.searchsorted(self.graph_offsets, self.targets, right=True) - 1
        counts: list[int] = torch.bincount(of_graph, minlength=len(self.graph_offsets)).tolist()
        return counts

    @cached_property
    def edge_offsets(self) -> Tensor:
        """(nodes,) int64: where the edges into each node begin."""
        return torch.searchsorted(self.targets, torch.arange(self.nodes))

    @cached_property
    def back(self) -> ByColumn:
        """The edges by their sources."""
        return by_column(self.targets, self.sources, self.nodes)

    def keep(self, edges: Tensor) -> Graph:
        """The graph with only the edges of a (edges,) bool mask; the others are removed, not zeroed."""
        return replace(self, sources=self.sources[edges], targets=self.targets[edges])


def make_graph(features: Features, edge_index: Tensor, labels: Tensor, where: str) -> Graph:
    """Check a graph as it was read, sort its edges, drop loops and repeated edges.

    Args:
        features: of the nodes.
        edge_index: (2, edges): sources, targets.
        labels: one per node, or one.
        where: file and graph, for messages.

    Raises:
        DataError: an index that is no node, features that are not finite, labels that do not fit, or no edge at all.
    """
    nodes = node_count(features)
    values = features.values if isinstance(features, SparseRows) else features
    if nodes == 0:
        raise DataError(f"{where}: has no nodes")
    if edge_index.dim() != 2 or len(edge_index) != 2 or edge_index.is_floating_point():
        raise DataError(f"{where}: the edge index is {tuple(edge_index.shape)}, it must be (2, edges) of whole numbers")
    outside = (edge_index < 0) | (edge_index >= nodes)
    if outside.any():
        worst = int(edge_index[outside][0])
        raise DataError(f"{where}: an edge names node {worst}, but the nodes are 0 to {nodes - 1}; correct the file")
    bad = ~torch.isfinite(values)
    if bad.any():
        at = int(bad.nonzero()[0, 0])
        node = int(rows_of(features.offsets, len(values))[at]) if isinstance(features, SparseRows) else at
        raise DataError(f"{where}: node {node} has a feature that is not a finite number; correct the file")
    if labels.dim() != 1 or labels.is_floating_point() or len(labels) not in (1, nodes):
        raise DataError(f"{where}: {tuple(labels.shape)} labels for {nodes} nodes; one class per node, or per graph")
    if (labels < 0).any():
        raise DataError(f"{where}: a label is {int(labels.min())}; classes are numbered from 0")
    sources, targets = edge_index.to(torch.int64)
    order = torch.unique((targets * nodes + sources)[sources != targets])
    if not len(order):
        raise DataError(
            f"{where}: is isolated: no edge joins two of its nodes, so that there is nothing to prune; remove the graph"
        )
    return Graph(features, order % nodes, order // nodes, labels.to(torch.int64), torch.zeros(1, dtype=torch.int64))


def union(graphs: Sequence[Graph]) -> Graph:
    """Several graphs as one without edges between them; a single graph is returned as it is."""
    if len(graphs) == 1:
        return graphs[0]
    sizes = torch.tensor([graph.nodes for graph in graphs])
    starts = torch.cumsum(sizes, 0) - sizes
    dense = [graph.features for graph in graphs if isinstance(graph.features, Tensor)]
    if len(dense) != len(graphs):
        raise ValueError("graphs with sparse features are not joined")
    shift = torch.repeat_interleave(starts, torch.tensor([graph.edges for graph in graphs]))
    return Graph(
        torch.cat(dense),
        torch.cat([graph.sources for graph in graphs]) + shift,
        torch.cat([graph.targets for graph in graphs]) + shift,
        torch.cat([graph.labels for graph in graphs]),
        starts,
    )


@dataclass(frozen=True)
class GraphSet:
    """A data set of graphs, split.

    Attributes:
        name: for people.
        level: what is classified; "node": one graph, and the splits are its nodes.
        graphs: all of them.
        classes: number of classes.
        train: (n,) int64, indices of nodes or graphs.
        validation: likewise; everything that is chosen is chosen on it.
        test: likewise; only ever reported.
    """

    name: str
    level: Level
    graphs: tuple[Graph, ...]
    classes: int
    train: Tensor
    validation: Tensor
    test: Tensor

    def __post_init__(self) -> None:
        count = self.graphs[0].nodes if self.level == "node" else len(self.graphs)
        seen = torch.zeros(count, dtype=torch.int64)
        for name in ("train", "validation", "test"):
            split = getattr(self, name)
            if not len(split):
                raise DataError(f"{self.name}: the {name} split is empty")
            if split.min() < 0 or split.max() >= count:
                raise DataError(f"{self.name}: the {name} split names {self.level} {int(split.max())} of {count}")
            seen[split] += 1
        if seen.max() > 1:
            raise DataError(f"{self.name}: a {self.level} is in two splits; selection needs a validation split apart")

    @property
    def inductive(self) -> bool:
        """Whether validation and test graphs are not seen in training."""
        return self.level == "graph"

    @property
    def features(self) -> int:
        """Features of a node."""
        features = self.graphs[0].features
        return features.width if isinstance(features, SparseRows) else int(features.shape[1])

    @property
    def edges(self) -> int:
        """Edges of all graphs together."""
        return sum(graph.edges for graph in self.graphs)

    def keep(self, edges: Sequence[Tensor]) -> GraphSet:
        """The set with only the marked edges of each graph."""
        return replace(self, graphs=tuple(g.keep(one) for g, one in zip(self.graphs, edges, strict=True)))

    @property
    def fingerprint(self) -> str:
        """sha256 of features, edges, labels and splits."""
        digest = hashlib.sha256(f"{self.level} {self.classes}".encode())
        for graph in self.graphs:
            values = graph.features.values if isinstance(graph.features, SparseRows) else graph.features
            for part in (values, graph.sources, graph.targets, graph.labels):
                digest.update(part.contiguous().numpy().tobytes())
        for split in (self.train, self.validation, self.test):
            digest.update(split.numpy().tobytes())
        return digest.hexdigest()

"""GCN, GIN and GAT for the nodes of a graph, or for whole graphs; they know nothing of masks.

A mask is applied from outside, to the parameters (`masks.masked`) and to the weights of the edges, so that what is
trained under masks is the network that is exported afterwards. The layers equal torch-geometric's `GCNConv`, `GINConv`
and `GATConv` with the same parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from hwloop.errors import ConfigError
from hwloop.graphs.graph import Features, Graph, Level
from hwloop.graphs.messages import (
    Edges,
    Product,
    add_self,
    attention,
    drop_features,
    gcn_edges,
    own_rows,
    plain_edges,
    propagate,
    propagate_heads,
    readout,
)

Kind = Literal["gcn", "gin", "gat"]
KINDS: tuple[str, ...] = get_args(Kind)
SLOPE = 0.2
"""Of the leaky ReLU in GAT's attention (Velickovic et al. 2018, section 2.1)."""


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of a graph network.

    Attributes:
        kind: "gcn", "gin" or "gat".
        level: what is classified.
        features: of a node.
        classes: outputs.
        hidden: channels between layers; of all heads together.
        layers: that pass messages.
        heads: of a GAT's hidden layers.
        dropout: before every layer where nodes are classified; none where graphs are, which have batch normalisation.
        readout: channels of the perceptron that classifies graphs; None: half and a quarter of the hidden ones.
    """

    kind: Kind
    level: Level
    features: int
    classes: int
    hidden: int
    layers: int
    heads: int = 8
    dropout: float = 0.5
    readout: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"model {self.kind!r} is unknown: it can be {', '.join(KINDS)}")
        for name, smallest in (("hidden", 1), ("layers", 1), ("heads", 1)):
            if getattr(self, name) < smallest:
                raise ConfigError(f"{name} is {getattr(self, name)}: it must be at least {smallest}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}: it must be at least 0 and below 1")
        if self.kind == "gat" and self.hidden % self.heads:
            raise ConfigError(f"hidden is {self.hidden}: {self.heads} heads need a multiple of {self.heads}")

    @property
    def readout_widths(self) -> tuple[int, ...]:
        """Channels of the perceptron that classifies graphs."""
        return (max(self.hidden // 2, 1), max(self.hidden // 4, 1)) if self.readout is None else self.readout

    def content(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


class GcnLayer(nn.Module):
    """Kipf and Welling 2017, equation (2); the edges are normalised already."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.product = Product(inputs, outputs)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, features: Features, edges: Edges) -> Tensor:
        """(made, outputs)."""
        values = self.product(features)
        return add_self(propagate(values, edges), values, edges) + self.bias


class GinLayer(nn.Module):
    """Xu et al. 2019, equation (4.1) with a perceptron of two layers; epsilon is learnt.

    The first product is taken before the sum, which it commutes with: sparse features stay sparse.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.product = Product(inputs, outputs)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.second = nn.Linear(outputs, outputs)
        self.epsilon = nn.Parameter(torch.zeros(1))

    def forward(self, features: Features, edges: Edges) -> Tensor:
        """(made, outputs)."""
        values = self.product(features)
        summed = propagate(values, edges) + (1 + self.epsilon) * own_rows(values, edges) + self.bias
        second: Tensor = self.second(functional.relu(summed))
        return second


class GatLayer(nn.Module):
    """Velickovic et al. 2018, equations (1) to (6): heads side by side, or their mean."""

    def __init__(self, inputs: int, channels: int, heads: int, *, concat: bool) -> None:
        super().__init__()
        self.heads, self.concat = heads, concat
        self.product = Product(inputs, heads * channels)
        self.to_source = nn.Parameter(torch.empty(1, heads, channels))
        self.to_target = nn.Parameter(torch.empty(1, heads, channels))
        self.bias = nn.Parameter(torch.zeros(heads * channels if concat else channels))
        nn.init.xavier_uniform_(self.to_source)
        nn.init.xavier_uniform_(self.to_target)

    def forward(self, features: Features, edges: Edges) -> Tensor:
        """(made, heads * channels), or (made, channels) of the mean."""
        flat = self.product(features)
        values = flat.reshape(flat.shape[0], self.heads, -1)
        own = own_rows(values, edges)
        source, target = (values * self.to_source).sum(-1), (own * self.to_target).sum(-1)
        logits = functional.leaky_relu(source[edges.sources] + target[edges.targets], SLOPE)
        theirs, mine = attention(logits, functional.leaky_relu(own_rows(source, edges) + target, SLOPE), edges)
        summed = propagate_heads(values, theirs, edges) + own * mine[:, :, None]
        joined: Tensor = summed.flatten(1) if self.concat else summed.mean(1)
        return joined + self.bias


def _layer(config: NetworkConfig, inputs: int, outputs: int, *, last: bool = False) -> nn.Module:
    if config.kind == "gcn":
        return GcnLayer(inputs, outputs)
    if config.kind == "gin":
        return GinLayer(inputs, outputs)
    if last:
        return GatLayer(inputs, outputs, 1, concat=False)
    return GatLayer(inputs, outputs // config.heads, config.heads, concat=True)


class GraphNetwork(nn.Module):
    """Base: logits of nodes or of graphs from features and edges.

    Attributes:
        config: its shape.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config

    def edges(self, graph: Graph, scores: Tensor | None = None) -> Edges:
        """The edges of a graph as this kind of network takes them, with (edges,) scores in [0, 1]."""
        return gcn_edges(graph, scores) if self.config.kind == "gcn" else plain_edges(graph, scores)

    def on(self, graph: Graph, scores: Tensor | None = None) -> Tensor:
        """The logits for a graph."""
        logits: Tensor = self(graph.features, self.edges(graph, scores), graph.graph_offsets)
        return logits


class NodeNetwork(GraphNetwork):
    """Layers with dropout between, the last one to the classes: the networks of the citation benchmarks."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        widths = [config.features, *[config.hidden] * (config.layers - 1), config.classes]
        self.layers = nn.ModuleList(
            _layer(config, inputs, outputs, last=index == config.layers - 1)
            for index, (inputs, outputs) in enumerate(pairwise(widths))
        )

    def forward(self, features: Features, edges: Edges | Sequence[Edges], graph_offsets: Tensor) -> Tensor:
        """(nodes, classes); with edges for each layer, of the nodes that the last one makes (see `Reach`)."""
        bend = functional.elu if self.config.kind == "gat" else functional.relu
        of_layers = [edges] * len(self.layers) if isinstance(edges, Edges) else edges
        values: Any = features
        for index, (layer, its) in enumerate(zip(self.layers, of_layers, strict=True)):
            values = layer(drop_features(bend(values) if index else values, self.config.dropout, self.training), its)
        result: Tensor = values
        return result


class GraphLevelNetwork(GraphNetwork):
    """Embedding, residual layers with batch normalisation, mean over nodes, perceptron.

    The network of the superpixel benchmark (Dwivedi et al., JMLR 2023, section 4), as ICPG prunes it.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        hidden = config.hidden
        self.embedding = nn.Linear(config.features, hidden)
        self.layers = nn.ModuleList(_layer(config, hidden, hidden) for _ in range(config.layers))
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in range(config.layers))
        widths = [hidden, *config.readout_widths]
        self.perceptron = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.classifier = nn.Linear(widths[-1], config.classes)

    def forward(self, features: Tensor, edges: Edges, graph_offsets: Tensor) -> Tensor:
        """(graphs, classes)."""
        values = self.embedding(features)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            values = values + functional.relu(norm(layer(values, edges)))
        values = readout(values, graph_offsets)
        for one in self.perceptron:
            values = functional.relu(one(values))
        logits: Tensor = self.classifier(values)
        return logits


def build_network(config: NetworkConfig) -> GraphNetwork:
    """A network with fresh weights from torch's generator."""
    return NodeNetwork(config) if config.level == "node" else GraphLevelNetwork(config)

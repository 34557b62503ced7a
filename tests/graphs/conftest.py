from __future__ import annotations

import pytest
import torch

from hwloop.graphs import GraphSet, make_graph
from tests.graphs.made import random_graph


@pytest.fixture(scope="session")
def one_graph() -> GraphSet:
    """Forty nodes of two classes that their features and neighbours tell."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    sources = torch.randint(40, (400,), generator=generator)
    targets = torch.randint(40, (400,), generator=generator)
    alike = labels[sources] == labels[targets]
    features = torch.randn(40, 6, generator=generator) + labels[:, None]
    graph = make_graph(features, torch.stack([sources, targets])[:, alike], labels, "made up")
    return GraphSet("made-up", "node", (graph,), 2, torch.arange(20), torch.arange(20, 30), torch.arange(30, 40))


@pytest.fixture(scope="session")
def many_graphs() -> GraphSet:
    """Thirty graphs of two classes, of different sizes."""
    graphs = [random_graph(10 + seed % 5, 60, seed, torch.tensor([seed % 2]), 6) for seed in range(30)]
    return GraphSet(
        "made-up-graphs", "graph", tuple(graphs), 2, torch.arange(16), torch.arange(16, 23), torch.arange(23, 30)
    )

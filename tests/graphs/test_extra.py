"""What needs torch-geometric or scikit-image: our layers against theirs, their data sets, superpixels."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from hwloop.errors import DataError
from hwloop.graphs import Graph, SuperpixelConfig, open_graphs
from hwloop.graphs.messages import gcn_edges, plain_edges
from hwloop.graphs.networks import GatLayer, GcnLayer, GinLayer
from hwloop.progress import Silent
from tests.graphs.made import Harmful, random_graph

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch_geometric") is None or importlib.util.find_spec("skimage") is None,
    reason="the extra hwloop[graphs] is not installed: make extras",
)


@pytest.fixture
def graph() -> Graph:
    return random_graph(20, 90, 1)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_gcn_layer_is_torch_geometrics(graph: Graph, weighted: bool) -> None:
    from torch_geometric.nn import GCNConv

    theirs = GCNConv(5, 4)
    ours = GcnLayer(5, 4)
    with torch.no_grad():
        ours.product.weight.copy_(theirs.lin.weight.T)
        theirs.bias.uniform_()
        ours.bias.copy_(theirs.bias)
    scores = torch.rand(graph.edges) if weighted else None
    expected = theirs(graph.features, torch.stack([graph.sources, graph.targets]), scores)
    torch.testing.assert_close(ours(graph.features, gcn_edges(graph, scores)), expected)


def test_a_gin_layer_is_torch_geometrics(graph: Graph) -> None:
    from torch.nn import Linear, ReLU, Sequential
    from torch_geometric.nn import GINConv

    theirs = GINConv(Sequential(Linear(5, 4), ReLU(), Linear(4, 4)), eps=0.3, train_eps=True)
    ours = GinLayer(5, 4)
    with torch.no_grad():
        ours.product.weight.copy_(theirs.nn[0].weight.T)
        ours.bias.copy_(theirs.nn[0].bias)
        ours.second.load_state_dict(theirs.nn[2].state_dict())
        ours.epsilon.copy_(theirs.eps)
    expected = theirs(graph.features, torch.stack([graph.sources, graph.targets]))
    torch.testing.assert_close(ours(graph.features, plain_edges(graph)), expected)


@pytest.mark.parametrize("concat", [True, False])
def test_a_gat_layer_is_torch_geometrics(graph: Graph, concat: bool) -> None:
    from torch_geometric.nn import GATConv

    theirs = GATConv(5, 4, heads=3, concat=concat)
    ours = GatLayer(5, 4, 3, concat=concat)
    with torch.no_grad():
        ours.product.weight.copy_(theirs.lin.weight.T)
        ours.to_source.copy_(theirs.att_src)
        ours.to_target.copy_(theirs.att_dst)
        theirs.bias.uniform_()
        ours.bias.copy_(theirs.bias)
    expected = theirs(graph.features, torch.stack([graph.sources, graph.targets]))
    torch.testing.assert_close(ours(graph.features, plain_edges(graph)), expected)


@pytest.mark.data
def test_superpixels_of_real_digits(shared_data: Path, tmp_path: Path) -> None:
    config = SuperpixelConfig(train=40, validation=20, test=20)
    data = open_graphs("mnist-superpixels", shared_data / "mnist", tmp_path, Silent(), config)
    assert [len(one) for one in (data.train, data.validation, data.test)] == [40, 20, 20]
    assert all(40 <= graph.nodes <= 90 and graph.edges == 8 * graph.nodes for graph in data.graphs)
    assert all(float(graph.features.min()) >= 0 and float(graph.features.max()) <= 1 for graph in data.graphs)  # type: ignore[union-attr]
    (kept,) = tmp_path.iterdir()
    again = open_graphs("mnist-superpixels", shared_data / "mnist", tmp_path, Silent(), config)
    assert again.fingerprint == data.fingerprint
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"is damaged .*delete it"):
        open_graphs("mnist-superpixels", shared_data / "mnist", tmp_path, Silent(), config)


def torch_data(graph: Any, **more: Any) -> Any:
    from torch_geometric.data import Data

    return Data(x=graph.features, edge_index=torch.stack([graph.sources, graph.targets]), y=graph.labels, **more)


def test_a_set_of_graphs_that_torch_geometric_saved(tmp_path: Path) -> None:
    from torch_geometric.data import InMemoryDataset

    graphs = [random_graph(6 + seed % 3, 30, seed, torch.tensor([seed % 2])) for seed in range(20)]
    path = tmp_path / "SOME" / "processed" / "data.pt"
    path.parent.mkdir(parents=True)
    InMemoryDataset.save([torch_data(one) for one in graphs], str(path))
    for place in (path, tmp_path / "SOME"):
        data = open_graphs(str(place), tmp_path, tmp_path, Silent())
        assert (data.name, data.level, data.classes, data.features) == ("SOME", "graph", 2, 5)
        assert [len(one) for one in (data.train, data.validation, data.test)] == [16, 2, 2]
    for ours, theirs in zip(data.graphs, graphs, strict=True):
        assert torch.equal(ours.features, theirs.features)  # type: ignore[arg-type]
        assert torch.equal(ours.targets, theirs.targets)
        assert torch.equal(ours.sources, theirs.sources)


def test_one_graph_that_torch_geometric_saved(tmp_path: Path) -> None:
    masks = {name: torch.zeros(12, dtype=torch.bool) for name in ("train_mask", "val_mask", "test_mask")}
    for at, mask in enumerate(masks.values()):
        mask[4 * at : 4 * at + 4] = True
    graph = random_graph(12, 50, 0)
    torch.save(torch_data(graph, **masks), tmp_path / "one.pt")
    data = open_graphs(str(tmp_path / "one.pt"), tmp_path, tmp_path, Silent())
    assert (data.level, data.validation.tolist()) == ("node", [4, 5, 6, 7])
    torch.save(torch_data(graph), tmp_path / "one.pt")
    with pytest.raises(DataError, match="without train_mask"):
        open_graphs(str(tmp_path / "one.pt"), tmp_path, tmp_path, Silent())
    torch.save({"a": [1.0, 1.0]}, tmp_path / "one.pt")
    with pytest.raises(DataError, match="holds no graphs"):
        open_graphs(str(tmp_path / "one.pt"), tmp_path, tmp_path, Silent())
    torch.save(Harmful(), tmp_path / "one.pt")
    with pytest.raises(DataError, match="no file of torch-geometric"):
        open_graphs(str(tmp_path / "one.pt"), tmp_path, tmp_path, Silent())

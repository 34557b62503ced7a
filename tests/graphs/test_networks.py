"""Networks and their layers, exported programs against them, narrower networks; see test_extra.py too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hwloop.errors import ModelError
from hwloop.graphs import Deployed, Graph, GraphSet, NetworkConfig, SparseRows, build_network, deployed_graph, slim
from hwloop.graphs.deployment import artifact_of
from hwloop.graphs.graph import take, union
from hwloop.graphs.masks import cut_weights, whole
from hwloop.graphs.messages import drop, plain_edges, propagate
from hwloop.graphs.reach import reach_of
from hwloop.runtimes import OnnxRuntime, TorchRuntime
from hwloop_agent.runtimes import RUNTIMES
from tests.graphs.made import config, random_graph

KINDS = ("gcn", "gin", "gat")


@pytest.fixture
def graph() -> Graph:
    return random_graph(20, 90, 1)


@pytest.mark.parametrize("level", ["node", "graph"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_score_of_zero_is_an_edge_that_is_not_there(kind: str, level: str) -> None:
    graph = random_graph(20, 90, 1)
    network = build_network(config(kind, level, features=5)).eval()
    kept = torch.rand(graph.edges, generator=torch.Generator().manual_seed(0)) < 0.6
    with torch.no_grad():
        soft, hard = network.on(graph, kept.float()), network.on(graph.keep(kept))
    torch.testing.assert_close(soft, hard)


@pytest.mark.parametrize("kind", KINDS)
def test_graphs_that_are_joined_do_not_see_each_other(kind: str) -> None:
    graphs = [random_graph(8 + seed, 40, seed, torch.tensor([0])) for seed in range(4)]
    network = build_network(config(kind, "graph", features=5)).eval()
    with torch.no_grad():
        together = network.on(union(graphs))
        alone = torch.cat([network.on(one) for one in graphs])
    torch.testing.assert_close(together, alone)


def test_messages_are_summed_as_by_a_matrix(graph: Graph) -> None:
    values, scores = torch.randn(20, 7), torch.rand(graph.edges)
    matrix = torch.zeros(20, 20).index_put((graph.targets, graph.sources), scores)
    torch.testing.assert_close(propagate(values, plain_edges(graph, scores)), matrix @ values)


@pytest.mark.parametrize("kind", KINDS)
def test_sparse_features_give_what_dense_ones_give(kind: str) -> None:
    graph = random_graph(12, 50, 3)
    dense = torch.relu(torch.as_tensor(graph.features) if isinstance(graph.features, Tensor) else torch.empty(0))
    csr = dense.to_sparse_csr()
    sparse = SparseRows(csr.values(), csr.col_indices(), csr.crow_indices()[:-1], 5)
    assert torch.equal(sparse.dense(), dense)
    network = build_network(config(kind, "node", features=5)).eval()
    edges = network.edges(graph)
    torch.testing.assert_close(network(sparse, edges, graph.graph_offsets), network(dense, edges, graph.graph_offsets))


@pytest.mark.parametrize("kind", KINDS)
def test_some_nodes_depend_on_their_reach_alone(kind: str, graph: Graph) -> None:
    """Logits and all gradients, those of the edges' scores among them, are what the whole graph gives."""
    torch.manual_seed(0)
    network = build_network(config(kind, "node", features=5, classes=3)).eval()
    rows = torch.tensor([2, 7, 11])
    reach = reach_of(graph, rows, network.config.layers)
    found = []
    for part in (False, True):
        scores = torch.linspace(0.1, 1, graph.edges).requires_grad_()
        edges = network.edges(graph, scores)
        if part:
            logits = network(reach.features, reach.edges(edges), graph.graph_offsets)
        else:
            logits = network(graph.features, edges, graph.graph_offsets)[rows]
        wanted = [scores, *network.parameters()]
        found.append((logits, *torch.autograd.grad(logits.square().sum(), wanted)))
    torch.testing.assert_close(*found)


def test_gradients_are_those_of_a_matrix(graph: Graph) -> None:
    values = torch.randn(20, 7, requires_grad=True)
    scores = torch.rand(graph.edges, requires_grad=True)
    matrix = torch.zeros(20, 20).index_put((graph.targets, graph.sources), scores)
    sums = (propagate(values, plain_edges(graph, scores)), matrix @ values)
    ours, theirs = (torch.autograd.grad(one.square().sum(), [values, scores]) for one in sums)
    torch.testing.assert_close(ours, theirs)


def test_rows_of_sparse_features_are_taken() -> None:
    dense = torch.tensor([[0.0, 1], [0, 0], [2, 3], [4, 0]])
    csr = dense.to_sparse_csr()
    sparse = SparseRows(csr.values(), csr.col_indices(), csr.crow_indices()[:-1], 2)
    nodes = torch.tensor([1, 2, 3])
    taken = take(sparse, nodes)
    assert isinstance(taken, SparseRows)
    assert torch.equal(taken.dense(), dense[nodes])


def test_dropout_keeps_the_mean_and_rests_outside_training() -> None:
    torch.manual_seed(0)
    values = torch.ones(200, 200)
    assert torch.equal(drop(values, 0.3, training=False), values)
    dropped = drop(values, 0.3, training=True)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)


def executed(deployed: Deployed, given: Tensor, folder: Path) -> Any:
    """What the agent's torch runtime computes from the artifact for a given input."""
    artifact = artifact_of(deployed, TorchRuntime(), "a network")
    path = folder / "program.calls"
    path.write_bytes(artifact.data)
    runtime: Any = RUNTIMES["torch"]()
    runtime.prepare(dict(artifact.options))
    runtime.import_()
    runtime.load(str(path), [one.to_spec() for one in artifact.inputs], 1, dict(artifact.options))
    try:
        return runtime._graph(given)[0].clone().numpy()
    finally:
        runtime._inference.__exit__(None, None, None)


@pytest.mark.parametrize("kind", KINDS)
def test_the_exported_program_computes_the_pruned_network(
    kind: str, one_graph: GraphSet, many_graphs: GraphSet, tmp_path: Path
) -> None:
    for data in (one_graph, many_graphs):
        torch.manual_seed(0)
        network = build_network(config(kind, data.level)).eval()
        scores = {name: torch.rand(mask.shape) for name, mask in whole(network).items()}
        masks = cut_weights(scores, whole(network), 0.5)
        graph = deployed_graph(data)
        graph = graph.keep(torch.rand(graph.edges) < 0.7)
        deployed = Deployed(network, masks, graph)
        assert isinstance(graph.features, Tensor)
        with torch.no_grad():
            for name, one in network.named_parameters():
                if name in masks:
                    one.mul_(masks[name])
            expected = network.on(graph).numpy()
        np.testing.assert_allclose(executed(deployed, graph.features[None], tmp_path), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_exported_program_takes_the_values_of_sparse_features(kind: str, tmp_path: Path) -> None:
    graph = random_graph(12, 50, 3)
    csr = torch.relu(torch.as_tensor(graph.features)).to_sparse_csr()  # type: ignore[arg-type]  # they are dense
    graph = replace(graph, features=SparseRows(csr.values(), csr.col_indices(), csr.crow_indices()[:-1], 5))
    network = build_network(config(kind, "node", features=5)).eval()
    with torch.no_grad():
        expected = network.on(graph).numpy()
    found = executed(Deployed(network, whole(network), graph), csr.values()[None], tmp_path)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_only_torch_measures_graph_networks(one_graph: GraphSet) -> None:
    network = build_network(config("gcn", "node"))
    with pytest.raises(ModelError, match="measure with the torch runtime"):
        artifact_of(Deployed(network, whole(network), one_graph.graphs[0]), OnnxRuntime(), "a network")


@pytest.mark.parametrize("level", ["node", "graph"])
@pytest.mark.parametrize("kind", ["gcn", "gin"])
def test_channels_that_are_zero_can_be_cut_without_a_difference(kind: str, level: str) -> None:
    torch.manual_seed(0)
    # Three outputs and sixteen hidden channels, of which five are silenced everywhere.
    network = build_network(config(kind, level, features=5, classes=3)).eval()
    dead = torch.tensor([1, 4, 5, 9, 14])
    state = network.state_dict()
    for name, wider in build_network(config(kind, level, features=5, classes=3)).state_dict().items():
        for dimension, size in enumerate(wider.shape):
            if size == network.config.hidden and "num_batches" not in name:
                state[name].index_fill_(dimension, dead, 0.0)
    network.load_state_dict(state)
    graph = random_graph(20, 90, 1)
    narrow = slim(network, 11)
    assert narrow.config.hidden == 11
    with torch.no_grad():
        torch.testing.assert_close(narrow.on(graph), network.on(graph))


def test_a_width_that_cannot_be_is_refused() -> None:
    with pytest.raises(ModelError, match="between 1 and 16"):
        slim(build_network(config("gcn", "node")), 17)
    with pytest.raises(ModelError, match="heads"):
        slim(build_network(config("gat", "node")), 8)


def test_a_gat_of_which_the_heads_do_not_divide_the_channels_is_refused() -> None:
    with pytest.raises(Exception, match="multiple of 8"):
        NetworkConfig("gat", "node", 5, 2, hidden=20, layers=2)

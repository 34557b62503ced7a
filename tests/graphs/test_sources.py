"""Data sets of graphs, and what is said of files that cannot be used."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from hwloop.errors import DataError
from hwloop.graphs import make_graph, open_graphs
from hwloop.graphs.graph import SparseRows
from hwloop.graphs.planetoid import read_planetoid
from hwloop.progress import Silent
from tests.graphs.made import Harmful

PARTS = ("x", "y", "tx", "ty", "allx", "ally", "graph", "test.index")


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "nodes", "edges", "features", "classes", "train"),
    [("cora", 2708, 10556, 1433, 7, 140), ("citeseer", 3327, 9104, 3703, 6, 120)],
)
def test_the_citation_networks_have_their_published_sizes(
    shared_data: Path, name: str, nodes: int, edges: int, features: int, classes: int, train: int
) -> None:
    data = read_planetoid(shared_data / "planetoid", name)
    assert (data.graphs[0].nodes, data.edges, data.features, data.classes) == (nodes, edges, features, classes)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [train, 500, 1000]
    assert torch.bincount(data.graphs[0].labels[data.train]).tolist() == [20] * classes
    assert isinstance(data.graphs[0].features, SparseRows)
    sums = data.graphs[0].features.dense().sum(1)
    assert ((sums - 1).abs() < 1e-5).logical_or(sums == 0).all()


@pytest.fixture
def copied(shared_data: Path, tmp_path: Path) -> Path:
    for part in PARTS:
        (tmp_path / f"ind.cora.{part}").write_bytes((shared_data / "planetoid" / f"ind.cora.{part}").read_bytes())
    return tmp_path


@pytest.mark.data
def test_a_pickle_that_names_a_function_is_refused_and_not_run(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / "ind.cora.graph").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(DataError, match=r"ind.cora.graph: not a readable Planetoid file .*builtins?.*print"):
        read_planetoid(copied, "cora")
    assert "run by a pickle" not in capsys.readouterr().out


@pytest.mark.data
def test_damaged_planetoid_files_are_named(copied: Path) -> None:
    graph = copied / "ind.cora.graph"
    whole = graph.read_bytes()
    graph.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"ind.cora.graph: not a readable"):
        read_planetoid(copied, "cora")
    graph.write_bytes(pickle.dumps({0: [1, 2708]}, protocol=2))
    with pytest.raises(DataError, match="an edge names node 2708, but the nodes are 0 to 2707"):
        read_planetoid(copied, "cora")
    graph.write_bytes(whole)
    (copied / "ind.cora.ally").unlink()
    with pytest.raises(DataError, match=r"ind.cora.ally: no such file"):
        read_planetoid(copied, "cora")
    (copied / "ind.cora.ally").write_bytes(pickle.dumps([1, 2], protocol=2))
    with pytest.raises(DataError, match="do not fit together"):
        read_planetoid(copied, "cora")


EDGES = torch.tensor([[0, 1, 2], [1, 2, 0]])


@pytest.mark.parametrize(
    ("features", "edges", "labels", "said"),
    [
        (torch.ones(3, 2), torch.tensor([[0], [3]]), torch.zeros(3).long(), "an edge names node 3"),
        (torch.ones(3, 2), torch.tensor([[0], [-1]]), torch.zeros(3).long(), "an edge names node -1"),
        (torch.tensor([[1.0], [float("nan")], [0.0]]), EDGES, torch.zeros(3).long(), "node 1 has a feature"),
        (torch.tensor([[1.0], [0.0], [float("inf")]]), EDGES, torch.zeros(3).long(), "node 2 has a feature"),
        (torch.ones(3, 2), torch.tensor([[1, 2], [1, 2]]), torch.zeros(3).long(), "is isolated"),
        (torch.ones(3, 2), torch.zeros(2, 0).long(), torch.zeros(3).long(), "is isolated"),
        (torch.ones(3, 2), torch.zeros(3, 2).long(), torch.zeros(3).long(), r"the edge index is \(3, 2\)"),
        (torch.ones(3, 2), EDGES, torch.zeros(2).long(), "labels for 3 nodes"),
        (torch.ones(3, 2), EDGES, torch.tensor([0, -1, 0]), "a label is -1"),
        (torch.ones(0, 2), EDGES, torch.zeros(1).long(), "has no nodes"),
    ],
)
def test_graphs_that_cannot_be_used_are_refused(
    features: torch.Tensor, edges: torch.Tensor, labels: torch.Tensor, said: str
) -> None:
    with pytest.raises(DataError, match=f"the file: {said}|the file.*{said}"):
        make_graph(features, edges, labels, "the file")


def test_loops_and_repeated_edges_are_dropped() -> None:
    graph = make_graph(torch.ones(3, 1), torch.tensor([[0, 0, 1, 2], [1, 1, 1, 0]]), torch.zeros(3).long(), "a file")
    assert (graph.sources.tolist(), graph.targets.tolist()) == ([2, 0], [0, 1])


def test_an_unknown_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data set and no file; give cora, citeseer, mnist-superpixels"):
        open_graphs("pubmed", tmp_path, tmp_path, Silent())

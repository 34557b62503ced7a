from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hwloop.graphs.graph import make_graph
from hwloop.graphs.masks import cut_edges, cut_weights, local_ranks, narrowed, sparsity


@pytest.mark.parametrize(("rounds", "edges", "weights"), [(3, 0.1426, 0.4880), (11, 0.4312, 0.9141)])
def test_the_published_sparsities_come_of_the_published_rates(rounds: int, edges: float, weights: float) -> None:
    generator = torch.Generator().manual_seed(0)
    kept = [torch.ones(10_556, dtype=torch.bool)]
    masks = {"a": torch.ones(300, 200, dtype=torch.bool), "b": torch.ones(200, 7, dtype=torch.bool)}
    for _ in range(rounds):
        scores = {name: torch.rand(mask.shape, generator=generator) for name, mask in masks.items()}
        masks = cut_weights(scores, masks, 0.2)
        kept = narrowed(kept, cut_edges([torch.rand(int(kept[0].sum()), generator=generator)], 0.05))
    # Each round rounds down to whole edges and weights: at most one too few a round.
    assert sparsity(kept) == pytest.approx(edges, abs=5e-5 + rounds / 10_556)
    assert sparsity(list(masks.values())) == pytest.approx(weights, abs=5e-5 + rounds / 61_400)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200), st.floats(0, 0.99), st.integers(0, 2**31))
def test_a_cut_takes_the_lowest_of_what_remains_and_puts_nothing_back(count: int, share: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    before = torch.rand(count, generator=generator) < 0.7
    scores = torch.rand(count, generator=generator)
    after = cut_weights({"w": scores.reshape(1, -1)}, {"w": before.reshape(1, -1)}, share)["w"][0]
    assert not (after & ~before).any()
    assert int(before.sum()) - int(after.sum()) == int(share * int(before.sum()))
    cut = before & ~after
    if cut.any() and after.any():
        assert scores[cut].max() <= scores[after].min()


def test_weights_are_ranked_over_all_matrices_together() -> None:
    masks = {"small": torch.ones(2, 2, dtype=torch.bool), "large": torch.ones(2, 2, dtype=torch.bool)}
    scores = {"small": torch.full((2, 2), 0.1), "large": torch.full((2, 2), 9.0)}
    after = cut_weights(scores, masks, 0.5)
    assert not after["small"].any()
    assert after["large"].all()


def test_edges_are_ranked_within_each_graph() -> None:
    low, high = torch.linspace(0, 0.1, 40), torch.linspace(0.9, 1, 60)
    masks = cut_edges([low, high], 0.05)
    assert [int((~one).sum()) for one in masks] == [2, 3]
    assert masks[0].tolist() == [False] * 2 + [True] * 38


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 12), st.integers(1, 60), st.floats(0, 0.99), st.integers(0, 2**31))
def test_a_local_cut_evens_out_the_edges_and_leaves_each_node_its_best(
    nodes: int, edges: int, share: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    graph = make_graph(
        torch.ones(nodes, 1),
        torch.cat([torch.tensor([[0], [1]]), torch.randint(nodes, (2, edges), generator=generator)], 1),
        torch.zeros(nodes, dtype=torch.int64),
        "drawn",
    )
    scores = torch.rand(graph.edges, generator=generator)
    (kept,) = cut_edges([local_ranks(graph, scores)], share)
    assert int((~kept).sum()) == int(share * graph.edges)
    before = torch.bincount(graph.targets, minlength=nodes)
    after = torch.bincount(graph.targets[kept], minlength=nodes)
    # Whoever lost an edge has no more left than anybody, but for the last one that was cut.
    lost = after < before
    if lost.any():
        assert after.max() <= after[lost].min() + 1
    for node in range(nodes):
        into = graph.targets == node
        if (into & kept).any() and (into & ~kept).any():
            assert scores[into & ~kept].max() <= scores[into & kept].min()


def test_a_graph_of_few_edges_loses_none() -> None:
    (mask,) = cut_edges([torch.rand(19)], 0.05)
    assert mask.all()

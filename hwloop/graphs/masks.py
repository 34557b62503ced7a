"""Which weights and edges a round cuts: pure decisions over scores. Nothing is ever put back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from hwloop.graphs.graph import Graph

Masks = dict[str, Tensor]
"""For each weight matrix of a network, by its name, a bool mask of what is kept."""


def matrices(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are pruned: all matrices; biases, scales and attention vectors are left alone."""
    return {name: one for name, one in network.named_parameters() if one.dim() == 2}


def whole(network: nn.Module) -> Masks:
    """Masks that keep everything."""
    return {name: torch.ones_like(one, dtype=torch.bool) for name, one in matrices(network).items()}


def masked(parameters: Mapping[str, Tensor], masks: Masks) -> dict[str, Tensor]:
    """The masked matrices, as `torch.func.functional_call` takes them."""
    return {name: parameters[name] * mask for name, mask in masks.items()}


def cut_weights(scores: Mapping[str, Tensor], masks: Masks, share: float) -> Masks:
    """Cut the lowest `share` of what remains, in one ranking over all matrices.

    Args:
        scores: one for each weight, higher is kept; those of weights that are gone do not count.
        masks: what remains.
        share: of the remaining weights, rounded down to whole weights.
    """
    names = list(masks)
    flat = torch.cat([scores[name].detach().reshape(-1) for name in names])
    kept = torch.cat([masks[name].reshape(-1) for name in names])
    whole_mask = _cut(flat, kept, share)
    parts = torch.split(whole_mask, [masks[name].numel() for name in names])
    return {name: part.reshape(masks[name].shape) for name, part in zip(names, parts, strict=True)}


def cut_edges(scores: Sequence[Tensor], share: float) -> list[Tensor]:
    """For each graph by itself, cut the lowest int(share * edges); one (edges,) bool mask a graph."""
    return [_cut(one.detach(), torch.ones_like(one, dtype=torch.bool), share) for one in scores]


def local_ranks(graph: Graph, scores: Tensor) -> Tensor:
    """Scores by which each node keeps its best edges: what ranks last among the edges into its node is cut first.

    The best edge into a node is cut only when no node has a second one left. It is what Satuluri, Parthasarathy and
    Ruan (SIGMOD 2011) call local sparsification, with as many edges for each node as the share allows.

    Args:
        graph: one, or several as one.
        scores: (edges,), higher is kept; between edges of the same rank they decide.

    Returns:
        (edges,) float64, to be cut by `cut_edges`.
    """
    ascending = torch.argsort(scores.detach(), stable=True)
    best_first = ascending.flip(0)
    best_first = best_first[torch.argsort(graph.targets[best_first], stable=True)]
    places = torch.arange(graph.edges)
    ranks = torch.empty(graph.edges, dtype=torch.float64)
    ranks[ascending] = places.double() / graph.edges
    ranks[best_first] -= places - graph.edge_offsets[graph.targets[best_first]]
    return ranks


def narrowed(kept: Sequence[Tensor], cut: Sequence[Tensor]) -> list[Tensor]:
    """Masks over the original edges, from masks over those that remained."""
    result = []
    for before, of_remaining in zip(kept, cut, strict=True):
        after = before.clone()
        after[before] = of_remaining
        result.append(after)
    return result


def _cut(scores: Tensor, kept: Tensor, share: float) -> Tensor:
    remaining = kept.nonzero()[:, 0]
    count = int(share * len(remaining))
    order = torch.argsort(scores[remaining], stable=True)
    result = kept.clone()
    result[remaining[order[:count]]] = False
    return result


def sparsity(masks: Sequence[Tensor]) -> float:
    """Share that is cut, over all masks together."""
    return 1 - sum(int(one.sum()) for one in masks) / sum(one.numel() for one in masks)

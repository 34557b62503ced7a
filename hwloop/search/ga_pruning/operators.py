"""Crossover and mutation of networks: pure, under a generator that is passed in."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hwloop.search.ga_pruning.anatomy import Anatomy, Genome, Layer, Slice

WHOLE_LAYERS = 0.5
"""A layer is inherited whole with this chance, else filter by filter."""

TOUCHED = 0.5
"""Each layer is mutated with this chance; one always is."""

CHANNELS = 0.5
"""A coarse mutation takes filters with this chance, else kernels."""


def crossover(anatomy: Anatomy, one: Genome, other: Genome, rng: np.random.Generator) -> dict[str, Tensor]:
    """A child that has each layer, or each of its filters, from one of two parents."""
    child = dict(one)
    for layer in anatomy.layers:
        filters = one[layer.weight].shape[0]
        if rng.random() < WHOLE_LAYERS:
            taken = torch.full((filters,), bool(rng.integers(2)))
        else:
            taken = torch.from_numpy(rng.random(filters) < 0.5)
        for name in (layer.weight, f"{layer.path}.bias"):
            if name in child:
                shape = [filters] + [1] * (one[name].dim() - 1)
                child[name] = torch.where(taken.view(shape), one[name], other[name])
    return child


def mutate(
    anatomy: Anatomy, genome: Genome, rng: np.random.Generator, *, coarse: bool, largest_cut: float
) -> dict[str, Tensor]:
    """A copy with more zeros.

    Args:
        anatomy: of the network.
        genome: the parent.
        rng: of all choices.
        coarse: zero filters or kernels of the convolutions, those with small norms more often; else, and in linear
            layers always, the weights below a random threshold.
        largest_cut: share of what is left of a layer that goes at most.
    """
    child = {name: tensor.clone() for name, tensor in genome.items()}
    touched = rng.random(len(anatomy.layers)) < TOUCHED
    touched[rng.integers(len(touched))] = True
    for layer, hit in zip(anatomy.layers, touched, strict=True):
        if not hit:
            continue
        share = float(rng.random()) * largest_cut
        slices = anatomy.channels.get(layer.path, ())
        if not (coarse and layer.positions):
            _drop_small_weights(child[layer.weight], share)
        elif slices and rng.random() < CHANNELS:
            _drop_channels(child, layer, slices, share, rng)
        else:
            _drop_kernels(child[layer.weight], share, rng)
    return child


def _drop_small_weights(weight: Tensor, share: float) -> None:
    alive = weight[weight != 0].abs()
    count = int(share * len(alive))
    if count:
        weight[weight.abs() <= alive.kthvalue(count).values] = 0


def _drop_kernels(weight: Tensor, share: float, rng: np.random.Generator) -> None:
    norms = weight.flatten(2).norm(dim=2)
    rows, columns = norms.nonzero(as_tuple=True)
    chosen = _lottery(norms[rows, columns], share, rng)
    weight[rows[chosen], columns[chosen]] = 0


def _drop_channels(
    genome: dict[str, Tensor], layer: Layer, slices: tuple[Slice, ...], share: float, rng: np.random.Generator
) -> None:
    norms = genome[layer.weight].flatten(1).norm(dim=1)
    alive = norms.nonzero().flatten()
    gone = torch.zeros(len(norms), dtype=torch.bool)
    gone[alive[_lottery(norms[alive], share, rng)]] = True
    for each in slices:
        genome[each.name].movedim(each.dim, 0)[gone[each.channels]] = 0


def _lottery(norms: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Indices of some of the smallest after each was multiplied by chance; at least one stays."""
    count = min(max(1, round(share * len(norms))), len(norms) - 1)
    noisy = norms.double().numpy() * rng.lognormal(sigma=0.5, size=len(norms))
    return torch.from_numpy(np.argsort(noisy, kind="stable")[: max(count, 0)].copy())

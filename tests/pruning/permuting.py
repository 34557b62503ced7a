"""The same function with its channels in another order."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from hwloop.pruning import ChannelGroup, Coupling, PruningSpace

Permutations = Mapping[str, np.ndarray]


def permutations(space: PruningSpace, seed: int) -> dict[str, np.ndarray]:
    """By group, which channel comes to each place; blocks of grouped convolutions stay aligned."""
    rng = np.random.default_rng(seed)
    found = {}
    for group in space.groups:
        block = group.width // group.divisor
        places = rng.permutation(block)
        found[group.name] = np.concatenate([part * block + places for part in range(group.divisor)])
    return found


def permuted(module: nn.Module, space: PruningSpace, chosen: Permutations) -> nn.Module:
    """A copy whose channel c is the original's channel `chosen[group][c]`."""
    twin = copy.deepcopy(module)
    with torch.no_grad():
        for group in space.groups:
            for coupling in group.couplings:
                _permute(twin, group, coupling, chosen[group.name])
    return twin


def _permute(twin: nn.Module, group: ChannelGroup, coupling: Coupling, chosen: np.ndarray) -> None:
    source = _source(group, coupling, chosen)
    if coupling.side == "parameter":
        owner, _, name = coupling.target.rpartition(".")
        _take(twin.get_submodule(owner).get_parameter(name), coupling.dim, source)
        return
    layer = twin.get_submodule(coupling.target)
    transposed = isinstance(layer, _ConvNd) and layer.transposed
    if coupling.side == "in":
        if isinstance(layer, _ConvNd):
            source = source[: len(source) // layer.groups]
        _take(layer.weight, 0 if transposed else 1, source)
        return
    _take(layer.weight, 1 if transposed else 0, source)
    for name in ("bias", "running_mean", "running_var"):
        values = getattr(layer, name, None)
        if values is not None:
            _take(values, 0, source)


def _source(group: ChannelGroup, coupling: Coupling, chosen: np.ndarray) -> np.ndarray:
    channels = np.array(coupling.channels)
    source = np.arange(len(channels))
    for channel in range(group.width):
        source[np.flatnonzero(channels == channel)] = np.flatnonzero(channels == chosen[channel])
    return source


def _take(values: Tensor, dim: int, source: np.ndarray) -> None:
    values.data.copy_(values.data.index_select(dim, torch.from_numpy(source)))

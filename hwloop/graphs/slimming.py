"""Structured pruning of hidden channels: narrower dense products, which every runtime is faster at."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hwloop.errors import ModelError
from hwloop.graphs.networks import GraphNetwork, NetworkConfig, build_network


def channel_importance(network: GraphNetwork) -> Tensor:
    """(hidden,) sums of the absolute weights that make and take each hidden channel, over all matrices."""
    hidden = _hidden_dimensions(network.config)
    total = torch.zeros(network.config.hidden)
    for name, one in network.named_parameters():
        if one.dim() == 2:
            for dimension in hidden[name]:
                total += one.detach().abs().sum(1 - dimension)
    return total


def slim(network: GraphNetwork, width: int) -> GraphNetwork:
    """A copy with the `width` most important of its hidden channels, the same ones in every layer.

    Raises:
        ModelError: the width is not between 1 and the network's, or the network is a GAT, whose channels belong to
            heads.
    """
    config = network.config
    if not 1 <= width <= config.hidden:
        raise ModelError(f"a hidden width of {width} was asked for; it must be between 1 and {config.hidden}")
    if config.kind == "gat":
        raise ModelError("a GAT's hidden channels belong to heads, which hwloop does not narrow; use gcn or gin")
    kept = torch.argsort(channel_importance(network), descending=True, stable=True)[:width].sort().values
    hidden = _hidden_dimensions(config)
    state = {}
    for name, value in network.state_dict().items():
        for dimension in hidden[name]:
            value = value.index_select(dimension, kept)
        state[name] = value.clone()
    narrow = build_network(_with_hidden(config, width))
    narrow.load_state_dict(state)
    return narrow.train(network.training)


def _with_hidden(config: NetworkConfig, width: int) -> NetworkConfig:
    """The same network with other hidden channels; what reads out keeps its size."""
    return replace(config, hidden=width, readout=config.readout_widths)


def _hidden_dimensions(config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """For each parameter and buffer the dimensions that are the hidden channels: those that grow with them."""
    with torch.device("meta"):
        small = build_network(_with_hidden(config, config.hidden)).state_dict()
        large = build_network(_with_hidden(config, config.hidden + 1)).state_dict()
    return {
        name: tuple(at for at, (a, b) in enumerate(zip(one.shape, large[name].shape, strict=True)) if a != b)
        for name, one in small.items()
    }

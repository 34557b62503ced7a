"""The parameters that belong to the channels of a group, one row per channel."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from hwloop.pruning.groups import ChannelGroup


def filters(module: nn.Module, group: ChannelGroup) -> Iterator[Tensor]:
    """Yield, for each root of a group, the filter of each channel, (width, n) float64 on the processor."""
    for coupling in dict.fromkeys(group.couplings):
        if coupling.side != "out" or coupling.target not in group.roots:
            continue
        layer = module.get_submodule(coupling.target)
        weight = layer.get_parameter("weight").detach().double().cpu()
        if getattr(layer, "transposed", False):
            weight = weight.transpose(0, 1)
        rows = torch.empty(group.width, weight[0].numel(), dtype=torch.float64)
        rows[torch.tensor(coupling.channels)] = weight.flatten(1)
        yield rows


def normalisations(module: nn.Module, group: ChannelGroup) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, for each normalisation that a group passes, scale and shift of each channel, (width,) float64 each.

    A channel that fills several places (after a flatten) has the mean of them.
    """
    for coupling in dict.fromkeys(group.couplings):
        layer = module.get_submodule(coupling.target) if coupling.side == "both" else None
        if not isinstance(layer, _BatchNorm | _InstanceNorm) or layer.weight is None:
            continue
        channels = torch.tensor(coupling.channels)
        local = torch.nonzero(channels >= 0).flatten()
        places = torch.zeros(group.width, dtype=torch.float64).index_add_(
            0, channels[local], torch.ones(len(local), dtype=torch.float64)
        )
        scale, shift = (
            torch.zeros(group.width, dtype=torch.float64).index_add_(
                0, channels[local], parameter.detach().double().cpu()[local]
            )
            / places.clamp(min=1)
            for parameter in (layer.weight, layer.bias)
        )
        yield scale, shift

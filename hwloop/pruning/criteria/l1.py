"""Filters with small weights go first (Li et al. 2017, "Pruning filters for efficient ConvNets")."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hwloop.pruning.groups import ChannelGroup


def l1_scores(module: nn.Module, group: ChannelGroup) -> NDArray[np.float64]:
    """Return the importance of each channel: the sum of absolute weights of its filters over all roots.

    Args:
        module: the network.
        group: one of its channel groups.

    Returns:
        (width,) scores; the channels with the largest stay longest.
    """
    scores = np.zeros(group.width)
    for coupling in group.couplings:
        if coupling.side != "out" or coupling.target not in group.roots:
            continue
        layer = module.get_submodule(coupling.target)
        weight = layer.get_parameter("weight").detach().double().abs()
        if getattr(layer, "transposed", False):
            weight = weight.transpose(0, 1)
        scores[np.array(coupling.channels)] += weight.flatten(1).sum(1).cpu().numpy()
    return scores

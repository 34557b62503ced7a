"""Filters with small weights go first (Li et al. 2017, "Pruning filters for efficient ConvNets")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hwloop.pruning.criteria.criterion import WeightCriterion
from hwloop.pruning.criteria.filters import filters
from hwloop.pruning.criteria.registry import register_criterion
from hwloop.pruning.groups import ChannelGroup


@register_criterion
@dataclass(frozen=True)
class L1(WeightCriterion):
    """The sum of absolute weights of a channel's filters, over all roots of its group."""

    name = "l1"

    def of_group(self, module: nn.Module, group: ChannelGroup) -> NDArray[np.float64]:
        """Return the (width,) sums."""
        scores = np.zeros(group.width)
        for rows in filters(module, group):
            scores += rows.abs().sum(1).numpy()
        return scores

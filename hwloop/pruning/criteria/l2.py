"""Filters that are short vectors go first (He et al. 2018, "Soft filter pruning", section 3.2, with p = 2)."""

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
class L2(WeightCriterion):
    """The Euclidean length of a channel's filters, those of all roots of its group as one vector."""

    name = "l2"

    def of_group(self, module: nn.Module, group: ChannelGroup) -> NDArray[np.float64]:
        """Return the (width,) lengths."""
        squares = np.zeros(group.width)
        for rows in filters(module, group):
            squares += rows.square().sum(1).numpy()
        return np.sqrt(squares)

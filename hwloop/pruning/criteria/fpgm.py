"""Filters that the others can stand in for go first (He et al. 2019, "Filter pruning via geometric median")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hwloop.pruning.criteria.criterion import WeightCriterion
from hwloop.pruning.criteria.filters import filters
from hwloop.pruning.criteria.registry import register_criterion
from hwloop.pruning.groups import ChannelGroup


@register_criterion
@dataclass(frozen=True)
class FPGM(WeightCriterion):
    """The sum of distances from a channel's filters to those of all other channels of its group.

    The paper's relaxation (equation 8): the filter with the least sum is the nearest to the geometric median. The
    filters of all roots of a group are one vector; the paper has one layer at a time.
    """

    name = "fpgm"

    def of_group(self, module: nn.Module, group: ChannelGroup) -> NDArray[np.float64]:
        """Return the (width,) sums of distances."""
        squares = torch.zeros(group.width, group.width, dtype=torch.float64)
        for rows in filters(module, group):
            lengths = rows.square().sum(1)
            squares += lengths[:, None] + lengths[None, :] - 2 * rows @ rows.T
        distances = squares.fill_diagonal_(0).clamp(min=0).sqrt()
        return distances.sum(1).numpy()

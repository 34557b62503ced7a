"""Channels with small scales go first (Liu et al. 2017, "Learning efficient CNNs through network slimming")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hwloop.pruning.criteria.criterion import WeightCriterion
from hwloop.pruning.criteria.filters import filters, normalisations
from hwloop.pruning.criteria.registry import register_criterion
from hwloop.pruning.groups import ChannelGroup


@register_criterion
@dataclass(frozen=True)
class BNScale(WeightCriterion):
    """The sum of the absolute scales of the normalisations that a channel passes.

    The paper trains with an L1 penalty on the scales first; here they are taken as the network has them. Ours: a group
    that passes no normalisation has no scales, and is scored by the L1 norm of its filters.
    """

    name = "bn-scale"

    def of_group(self, module: nn.Module, group: ChannelGroup) -> NDArray[np.float64]:
        """Return the (width,) sums."""
        scales = [scale.abs() for scale, _shift in normalisations(module, group)]
        scores = np.zeros(group.width)
        for values in scales or (rows.abs().sum(1) for rows in filters(module, group)):
            scores += values.numpy()
        return scores

"""Any channel goes first: what every other criterion has to beat."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from hwloop.pruning.criteria.criterion import Criterion, Scores
from hwloop.pruning.criteria.evidence import Evidence
from hwloop.pruning.criteria.registry import register_criterion
from hwloop.pruning.groups import ChannelGroup


@register_criterion
@dataclass(frozen=True)
class Random(Criterion):
    """A number drawn for each channel, under the seed and the group's name (so other groups do not matter)."""

    name = "random"
    seeded = True
    equivariant = False

    def scores(self, module: nn.Module, groups: Sequence[ChannelGroup], evidence: Evidence) -> Scores:
        """Return the drawn numbers, 0 to 1."""
        return {
            group.name: np.random.default_rng([evidence.seed, zlib.crc32(group.name.encode())]).random(group.width)
            for group in groups
        }

"""Which channels matter, one criterion per file."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hwloop.pruning.criteria.l1 import l1_scores
from hwloop.pruning.groups import ChannelGroup

Criterion = Callable[[nn.Module, ChannelGroup], NDArray[np.float64]]
"""Network and group to (width,) scores; the channels with the largest stay longest."""

__all__ = ["Criterion", "l1_scores"]

"""From scores to an order of channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwloop.pruning.groups import ChannelGroup


def ranked(group: ChannelGroup, scores: NDArray[np.float64]) -> tuple[int, ...]:
    """Return the channels from the one that is kept longest to the one that goes first; ties go by index.

    Where grouped convolutions demand it, channels at the same place of each block stay or go together, by the sum of
    their scores.

    Args:
        group: whose channels they are.
        scores: (width,), the largest stay longest.
    """
    block = group.width // group.divisor
    positions = np.argsort(-scores.reshape(group.divisor, block).sum(axis=0), kind="stable")
    return tuple(int(part * block + position) for position in positions for part in range(group.divisor))

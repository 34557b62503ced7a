"""Which tensors have to be in memory at each step of a network's schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from hwloop.layers.network import Network


def live_tensors(network: Network) -> NDArray[np.int64]:
    """Liveness of the tensors of a network.

    A network input lives from the first step to its last use, a node's output from its step to its last use, what
    the network returns until the end. At its step a node's inputs and output are all live.

    Returns:
        (steps, tensors) matrix of 0 and 1; the tensors are the network's inputs, then the nodes' outputs.
    """
    steps, offset = len(network.nodes), len(network.input_shapes)
    born = np.concatenate([np.zeros(offset, np.int64), np.arange(steps)])
    last = np.concatenate([np.full(offset, -1), np.arange(steps)])
    for step, node in enumerate(network.nodes):
        for source in node.inputs:
            last[offset + source if source >= 0 else -1 - source] = step
    for source in network.outputs:
        last[offset + source if source >= 0 else -1 - source] = steps - 1
    step_column = np.arange(steps)[:, None]
    return ((born <= step_column) & (step_column <= last)).astype(np.int64)

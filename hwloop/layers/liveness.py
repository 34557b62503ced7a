"""Which tensors have to be in memory at each step of the schedule of a network, or of thousands of candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from hwloop.layers.blocks import Variants
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


def last_uses(variants: Variants, present: NDArray[np.bool_], remains: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The last step at which each tensor is read, for many candidates at once.

    Args:
        variants: all nodes, in their common schedule.
        present: (n, L) which nodes each candidate executes.
        remains: (n, B) which blocks each candidate has.

    Returns:
        (n, T) steps of the common schedule; -1 for a tensor that is never read, the last step for one that the network
        returns. Whoever reads the output of a removed block reads its replacement.
    """
    offset = len(variants.network.input_shapes)
    last = np.full((variants.count, len(present)), -1, np.int64)
    for column, sources in enumerate(variants.reads):
        used = np.where(present[:, column], variants.steps[column], -1)
        for source in sources:
            np.maximum(last[source], used, out=last[source])
    for output in variants.network.outputs:
        last[offset + output if output >= 0 else -1 - output] = len(variants.nodes) - 1
    # Outputs before what replaces them: a chain of removed blocks hands its readers on.
    for block in sorted(range(len(variants.blocks)), key=lambda block: -variants.rerouted[block][0]):
        output, replacement = variants.rerouted[block]
        if output != replacement:
            handed = np.where(remains[:, block], -1, last[output])
            np.maximum(last[replacement], handed, out=last[replacement])
    return np.ascontiguousarray(last.T)


def peak_of_intervals(
    born: NDArray[np.int64], last: NDArray[np.int64], sizes: NDArray[np.float64], steps: int
) -> NDArray[np.int64]:
    """The largest sum of the sizes of tensors that are live together.

    Args:
        born: (m,) the step that makes each tensor.
        last: (n, m) the last step that reads it; it lives at its own step in any case.
        sizes: (n, m) in bytes, 0 where a candidate does not have it.
        steps: length of the schedule.

    Returns:
        (n,) peaks in bytes.
    """
    count = len(sizes)
    if not steps or not count:
        return np.zeros(count, np.int64)
    width = steps + 1
    rows = np.arange(count)[:, None] * width
    ends = rows + np.maximum(last, born) + 1
    change = np.bincount((rows + born).ravel(), weights=sizes.ravel(), minlength=count * width)
    change -= np.bincount(ends.ravel(), weights=sizes.ravel(), minlength=count * width)
    live = change.reshape(count, width).cumsum(axis=1)
    peak: NDArray[np.int64] = live.max(axis=1).astype(np.int64)
    return peak

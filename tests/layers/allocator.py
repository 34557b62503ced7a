"""The peak of a network's buffers, found the long way."""

from __future__ import annotations

import numpy as np


def brute_force_peak(network):
    """Walk the schedule with a set of buffers, as an allocator would."""
    uses = {}
    for step, node in enumerate(network.nodes):
        for source in node.inputs:
            uses.setdefault(source, []).append(step)
    live = {-1 - k: int(np.prod(shape)) * 4 for k, shape in enumerate(network.input_shapes) if -1 - k in uses}
    peak = 0
    for step, node in enumerate(network.nodes):
        live[step] = int(np.prod(node.layer.output_shape)) * 4
        peak = max(peak, sum(live.values()))
        for tensor in list(live):
            if tensor not in network.outputs and max(uses.get(tensor, [-1])) <= step:
                del live[tensor]
    return peak

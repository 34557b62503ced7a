"""Which layers a campaign measures: a small grid of widths for every layer that a pruning space can produce.

A layer of a pruned network differs from the base's in its input and output widths only; where blocks may be removed,
there are also the layers that are executed in the place of others then. Each of the two axes is measured at a few
levels, evenly spread from the narrowest to the widest, and all their combinations: a full grid, which the table can
interpolate.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from hwloop.layers import Layer, ScalableNetwork
from hwloop.layers.ops import OPS


def spread(levels: Sequence[int], count: int) -> tuple[int, ...]:
    """At most `count` of ascending `levels`, evenly spread, the first and the last among them."""
    if len(levels) <= count:
        return tuple(levels)
    positions = np.linspace(0, len(levels) - 1, count).round().astype(int)
    return tuple(levels[i] for i in dict.fromkeys(positions.tolist()))


def layer_design(scalable: ScalableNetwork, levels: Sequence[Sequence[int]], per_axis: int) -> list[Layer]:
    """The layers to measure for a space.

    Args:
        scalable: the network, with G width groups.
        levels: for each of the G groups, its possible widths, ascending.
        per_axis: how many widths are measured per axis of a layer, at least 2.

    Returns:
        Distinct supported layers, in the order of the network, then those that only networks without some block
        execute; views (which do no work) are left out.
    """
    base = np.asarray(scalable.base_widths)
    chosen = [spread(group, per_axis) for group in levels]
    depends_in, depends_out = _dependencies(scalable, levels)
    designed: dict[str, Layer] = {}
    for index, node in enumerate(scalable.nodes):
        removed = scalable.removed_for(index)
        remains = [block.name not in removed for block in scalable.blocks]
        first = np.flatnonzero(depends_in[:, index])
        second = np.flatnonzero(depends_out[:, index] & ~depends_in[:, index])
        axes = [[(groups, step) for step in range(per_axis)] for groups in (first, second) if groups.size]
        for combination in itertools.product(*axes):
            widths = base.copy()
            for groups, step in combination:
                for group in groups:
                    options = chosen[group]
                    widths[group] = options[min(step, len(options) - 1)]
            network = scalable.at(widths.tolist(), remains)
            layer = next(each.layer for each in network.nodes if each.name == node.name)
            if layer.supported and not OPS[layer.op].view:
                designed.setdefault(layer.key, layer)
    return list(designed.values())


def _dependencies(scalable: ScalableNetwork, levels: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Which groups each layer's input and output widths depend on: two boolean arrays (G, L)."""
    base = np.asarray(scalable.base_widths)
    probes = np.tile(base, (len(levels), 1))
    for group, options in enumerate(levels):
        probes[group, group] = options[0] if options[0] != base[group] else base[group] + 1
    base_in, base_out = scalable.channels(base[None, :])
    probe_in, probe_out = scalable.channels(probes)
    return probe_in != base_in, probe_out != base_out

"""A full network whose channels pass through gates: between there and pruned, and differentiable.

`masking` silences a channel where it is written, again and again along the layers that carry it on. A gate stands once
on every way out of its group: on what the layers outside read of it. So a gate of zero is the sliced network, a gate of
one is the full network, and the derivative with respect to a gate counts every way exactly once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hwloop.pruning.groups import ChannelGroup, Coupling


def readers(groups: Sequence[ChannelGroup]) -> Iterator[tuple[ChannelGroup, Coupling]]:
    """Yield each group with each of the couplings at which a layer reads its channels."""
    for group in groups:
        for coupling in dict.fromkeys(group.couplings):
            if coupling.side == "in":
                yield group, coupling


@contextmanager
def gated(module: nn.Module, groups: Sequence[ChannelGroup], gates: Mapping[str, Tensor]) -> Iterator[nn.Module]:
    """Multiply what layers read of each group by its gates, inside the `with` block.

    Args:
        module: the network; nothing of it is changed, its layers have hooks inside the block.
        groups: whose channels pass through gates.
        gates: by group name, one factor per channel, (width,); or per image and channel, (n, width).
    """
    modules = dict(module.named_modules())
    hooks = []
    try:
        for group, coupling in readers(groups):
            layer = modules[coupling.target]
            gate = gates[group.name]
            # The last of these factors is one: -1 stands for what is not of the group.
            padded = torch.cat([gate, gate.new_ones((*gate.shape[:-1], 1))], dim=-1)
            factors = padded[..., torch.tensor(coupling.channels, device=gate.device)]
            hooks.append(layer.register_forward_pre_hook(_gate(factors, isinstance(layer, nn.Linear))))
        yield module
    finally:
        for hook in hooks:
            hook.remove()


def _gate(factors: Tensor, last: bool) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    def gate(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        maps, *rest = inputs
        shape = [1] * maps.dim()
        if factors.dim() == 2:
            shape[0] = len(factors)
        shape[-1 if last else 1] = factors.shape[-1]
        return maps * factors.to(maps.dtype).view(shape), *rest

    return gate

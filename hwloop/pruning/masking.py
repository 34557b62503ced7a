"""A full network whose pruned channels are silenced: what a sliced network must equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hwloop.pruning.blocks import RemovableBlock
from hwloop.pruning.groups import ChannelGroup, Coupling


@contextmanager
def masked(
    module: nn.Module,
    groups: Sequence[ChannelGroup],
    kept: Mapping[str, Sequence[int]],
    removed: Sequence[RemovableBlock] = (),
) -> Iterator[nn.Module]:
    """Silence the channels that are not kept, and the branches that are removed, inside the `with` block.

    The outputs of the groups' roots, and of the batch normalisations and depthwise convolutions that follow them,
    are multiplied by zero; parameters outside layers are zeroed and given back.

    Args:
        module: the full network.
        groups: whose channels are silenced.
        kept: by group name, the channels that stay.
        removed: the blocks whose branches add nothing but zeros.
    """
    modules = dict(module.named_modules())
    parameters = dict(module.named_parameters())
    hooks = []
    saved: list[tuple[nn.Parameter, Tensor]] = []
    try:
        for group in groups:
            stays = torch.zeros(group.width, dtype=torch.bool)
            stays[torch.as_tensor(kept[group.name], dtype=torch.long)] = True
            for coupling in group.couplings:
                if coupling.side == "in":
                    continue
                factor = _factor(coupling, stays)
                if coupling.side == "parameter":
                    parameter = parameters[coupling.target]
                    saved.append((parameter, parameter.detach().clone()))
                    shape = [1] * parameter.dim()
                    shape[coupling.dim] = -1
                    parameter.data.mul_(factor.view(shape))
                else:
                    layer = modules[coupling.target]
                    hooks.append(layer.register_forward_hook(_silencer(factor, isinstance(layer, nn.Linear))))
        hooks += [modules[block.silenced].register_forward_hook(_zeros) for block in removed]
        yield module
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, before in reversed(saved):
            parameter.data.copy_(before)


def _factor(coupling: Coupling, stays: Tensor) -> Tensor:
    """Return 1 for each local index that stays or is not of the group, 0 for the others."""
    channels = torch.tensor(coupling.channels, dtype=torch.long)
    return torch.where(channels >= 0, stays[channels.clamp(min=0)], torch.ones(())).float()


def _zeros(_module: nn.Module, _inputs: object, outputs: Tensor) -> Tensor:
    return torch.zeros_like(outputs)


def _silencer(factor: Tensor, last: bool) -> Callable[[nn.Module, object, Tensor], Tensor]:
    def silence(_module: nn.Module, _inputs: object, outputs: Tensor) -> Tensor:
        shape = [1] * outputs.dim()
        shape[-1 if last else 1] = -1
        return outputs * factor.to(outputs).view(shape)

    return silence

"""Weights that a pruned network has learned, carried on to networks that are cut from it.

The weights are written back into the shape of the base network, zero where channels are gone, so that the base's own
surgery cuts again. Where each number belongs is read off a copy of the base whose weights are their own positions: it
is cut in the same way.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hwloop.pruning.candidate import Candidate
from hwloop.pruning.criteria.criterion import WeightCriterion
from hwloop.pruning.groups import ChannelGroup
from hwloop.pruning.ordering import channel_order
from hwloop.pruning.surgery import SurgeryPlan


@dataclass(frozen=True)
class Carried:
    """The weights of a pruned network in the shape of the base network.

    Attributes:
        state: a state dict of the base network, zero where channels are gone.
        kept: by group name, the channels that are there, ascending.
    """

    state: Mapping[str, Tensor]
    kept: Mapping[str, Sequence[int]]


class Carrier:
    """Cuts carried weights to thinner networks, and carries the weights of these.

    In each group the channels with the smallest squared L2 norm of their filters go first; those that are gone stay so.

    Args:
        module: the base network; never changed.
        groups: its channel groups, in the order of a candidate's widths.
    """

    def __init__(self, module: nn.Module, groups: Sequence[ChannelGroup]) -> None:
        self._module = module
        self._groups = tuple(groups)
        self._numbered = copy.deepcopy(module).double()  # exact up to 2^53 numbers
        with torch.no_grad():
            for tensor in self._numbered.state_dict().values():
                if tensor.is_floating_point():
                    tensor.copy_(torch.arange(tensor.numel(), dtype=tensor.dtype).view(tensor.shape))

    def base(self) -> Carried:
        """The base network's own weights."""
        return Carried(self._module.state_dict(), {group.name: tuple(range(group.width)) for group in self._groups})

    def plan(self, carried: Carried) -> SurgeryPlan:
        """The surgery of carried weights: gives networks that are no wider than what was carried."""
        module = copy.deepcopy(self._module)
        module.load_state_dict(dict(carried.state))
        return SurgeryPlan(module, self._groups, channel_order(module, self._groups, _Remaining(carried.kept)))

    def carry(self, network: nn.Module, plan: SurgeryPlan, candidate: Candidate) -> Carried:
        """The weights of a network that a plan cut, and that was trained since.

        Args:
            network: what `plan.apply(candidate)` gave.
            plan: of `plan`.
            candidate: its widths.
        """
        places = SurgeryPlan(self._numbered, self._groups, plan.order).apply(candidate).state_dict()
        state = {name: tensor.clone() for name, tensor in self._module.state_dict().items()}
        for name, learned in network.state_dict().items():
            if not learned.is_floating_point():
                state[name] = learned.clone()
                continue
            whole = torch.zeros_like(state[name]).flatten()
            whole[places[name].flatten().long()] = learned.flatten()
            state[name] = whole.view(state[name].shape)
        return Carried(state, plan.kept(candidate))


@dataclass(frozen=True)
class _Remaining(WeightCriterion):
    """The squared L2 norms of the channels that are still there; those that are gone come after all of them."""

    name: ClassVar[str] = "remaining"
    kept: Mapping[str, Sequence[int]]

    def of_group(self, module: nn.Module, group: ChannelGroup) -> NDArray[np.float64]:
        scores = np.full(group.width, -1.0)
        kept = np.array(self.kept[group.name])
        scores[kept] = squared_l2_scores(module, group)[kept]
        return scores


def squared_l2_scores(module: nn.Module, group: ChannelGroup) -> NDArray[np.float64]:
    """(width,) sums of squared weights of each channel's filters over all roots (NetAdapt, section 3.3)."""
    scores = np.zeros(group.width)
    for coupling in group.couplings:
        if coupling.side != "out" or coupling.target not in group.roots:
            continue
        layer = module.get_submodule(coupling.target)
        weight = layer.get_parameter("weight").detach().double()
        if getattr(layer, "transposed", False):
            weight = weight.transpose(0, 1)
        scores[np.array(coupling.channels)] += weight.square().flatten(1).sum(1).numpy()
    return scores

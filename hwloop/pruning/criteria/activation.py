"""Channels that feed little into the layers that read them go first: no gradients, no Hessian, no labels.

When a channel goes, what a layer that reads it computes changes by the channel's activations times the weights that
read them. The expected square of that, one channel at a time, is the diagonal of the layer-wise second-order term that
"optimal brain surgeon" methods build (Dong et al. 2017, "Learning to prune deep neural networks via layer-wise optimal
brain surgeon", section 3.1, where the Hessian is that of the inputs); the diagonal needs no Hessian. Sun et al. 2024
("Wanda") use its root for single weights. Ours: each layer's share is relative to all that it reads, because
a normalisation behind it makes its scale meaningless; the shares of a group's readers are added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from hwloop.pruning.criteria.criterion import Criterion, Scores
from hwloop.pruning.criteria.evidence import Evidence
from hwloop.pruning.criteria.registry import register_criterion
from hwloop.pruning.criteria.running import device_of, explained, working_copy
from hwloop.pruning.gating import readers
from hwloop.pruning.groups import ChannelGroup


@register_criterion
@dataclass(frozen=True)
class Activation(Criterion):
    """A channel's share of the energy that its readers receive, added over the readers; labels are not looked at."""

    name = "activation"
    needs_images = True

    def scores(self, module: nn.Module, groups: Sequence[ChannelGroup], evidence: Evidence) -> Scores:
        """Return the sums of shares."""
        twin = working_copy(module)
        read = {coupling.target: twin.get_submodule(coupling.target) for _group, coupling in readers(groups)}
        energies: dict[str, Tensor] = {}
        for target, layer in read.items():
            layer.register_forward_pre_hook(_collector(target, energies))
        with torch.no_grad(), explained(module, self.name):
            for images, _labels in evidence.batches(self.name, device_of(module)):
                twin(images)
        scores = {group.name: np.zeros(group.width) for group in groups}
        for group, coupling in readers(groups):
            if coupling.target not in energies:
                continue  # no pass came by
            received = energies[coupling.target].cpu() * _reading(read[coupling.target]).cpu()
            total = float(received.sum())
            channels = np.array(coupling.channels)
            local = np.flatnonzero(channels >= 0)
            if total > 0:
                np.add.at(scores[group.name], channels[local], received.numpy()[local] / total)
        return scores


def _collector(target: str, energies: dict[str, Tensor]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    """Return a hook that adds up the squares of each channel that a layer reads."""

    def collect(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        maps: Tensor = inputs[0]
        squares = maps.detach().double().square()
        channel = squares.dim() - 1 if isinstance(layer, nn.Linear) else 1
        found = squares.sum([dim for dim in range(squares.dim()) if dim != channel])
        energies[target] = energies[target] + found if target in energies else found

    return collect


def _reading(layer: nn.Module) -> Tensor:
    """Return the energy of the weights that read each input channel, (in_channels,) float64."""
    squares = layer.get_parameter("weight").detach().double().square()
    if not isinstance(layer, _ConvNd):
        return squares.sum(0)
    if layer.transposed:
        return squares.flatten(1).sum(1)
    parts = squares.view(layer.groups, layer.out_channels // layer.groups, layer.in_channels // layer.groups, -1)
    return parts.sum((1, 3)).flatten()

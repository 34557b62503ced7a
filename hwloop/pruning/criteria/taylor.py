"""Channels whose absence would change the loss least go first, to first order.

Molchanov et al. 2019, "Importance estimation for neural network pruning", section 3.1 and equation 8: with a gate on
each channel, removing it changes the loss by the derivative with respect to its gate, to first order; the importance is
the square of that. Ours: one gate for all layers of a group, standing where the group is read; and the square is taken
of each image, where the paper squares the mean of a mini-batch, so that the scores do not depend on the batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from hwloop.pruning.criteria.criterion import Criterion, Scores
from hwloop.pruning.criteria.evidence import Evidence
from hwloop.pruning.criteria.registry import register_criterion
from hwloop.pruning.criteria.running import device_of, explained, logits_of, working_copy
from hwloop.pruning.gating import gated
from hwloop.pruning.groups import ChannelGroup


@register_criterion
@dataclass(frozen=True)
class Taylor(Criterion):
    """The mean over images of the squared derivative of the cross-entropy with respect to a channel's gate."""

    name = "taylor"
    needs_images = True

    def scores(self, module: nn.Module, groups: Sequence[ChannelGroup], evidence: Evidence) -> Scores:
        """Return the mean squares."""
        twin, device = working_copy(module), device_of(module)
        totals = {group.name: np.zeros(group.width) for group in groups}
        count = 0
        for images, labels in evidence.batches(self.name, device):
            gates = {
                group.name: torch.ones(len(images), group.width, device=device, requires_grad=True) for group in groups
            }
            with torch.enable_grad(), explained(module, self.name), gated(twin, groups, gates):
                loss = functional.cross_entropy(logits_of(twin, images, self.name), labels, reduction="sum")
                found = torch.autograd.grad(loss, list(gates.values()), allow_unused=True)
            for name, gradient in zip(gates, found, strict=True):
                if gradient is not None:  # else nothing that the logits depend on reads the group
                    totals[name] += gradient.double().square().sum(0).cpu().numpy()
            count += len(images)
        return {name: total / count for name, total in totals.items()}

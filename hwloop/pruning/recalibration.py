"""New statistics for the batch normalisations of a pruned network.

Li et al. 2020, "EagleEye", section 3.3: the statistics of the unpruned network do not fit the pruned one; measuring
them again on a few hundred training images recovers most of the accuracy at a hundredth of the cost of fine-tuning.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def recalibrate(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Measure the running statistics of all batch normalisations anew, in place.

    Statistics are the plain average over the batches. Only batch normalisations are in training mode while it runs
    (dropout stays off); no gradients; every mode and momentum is as before afterwards.

    Args:
        module: the network; untouched where it has no batch normalisation with running statistics.
        batches: images (n, c, h, w), at least one batch of two or more.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    if not layers:
        return
    modes = {child: child.training for child in module.modules()}
    momenta = [layer.momentum for layer in layers]
    module.eval()
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # a cumulative average
            layer.train()
        with torch.no_grad():
            for batch in batches:
                module(batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for child, mode in modes.items():
            child.training = mode

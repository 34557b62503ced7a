"""Statistics for untrained networks, so that their activations have the scale of a trained one's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

PIXELS = 2 * 224 * 224
FEWEST, MOST = 2, 32
"""A batch has about `PIXELS` pixels: small images leave maps of one pixel, whose statistics need many of them."""


def settle(module: nn.Module, input_shape: Sequence[int], *, seed: int = 0) -> None:
    """Give the batch normalisations the statistics of random images, in place.

    An untrained network's are 0 and 1: then every residual sum doubles the variance, and the outputs of a deep one
    overflow what a measurement takes for a sane number. Nothing else changes; a network without batch
    normalisation stays as it is.

    Args:
        module: the network; afterwards every part is in the mode in which it was.
        input_shape: of one image.
        seed: of the images.
    """
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    if not norms:
        return
    training = [(part, part.training) for part in module.modules()]
    momenta = [(part, part.momentum) for part in norms]
    module.eval()  # no dropout
    try:
        for norm in norms:
            norm.train()
            norm.momentum = 1.0
        parameter = next(module.parameters())
        batch = min(MOST, max(FEWEST, PIXELS // max(1, math.prod(input_shape[1:]))))
        images = torch.randn(batch, *input_shape, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            module(images.to(parameter))
    finally:
        for part, flag in training:
            part.training = flag
        for norm, momentum in momenta:
            norm.momentum = momentum

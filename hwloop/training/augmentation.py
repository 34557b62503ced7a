"""Random crops, flips and blends of whole batches."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def random_crop(images: Tensor, margin: int, generator: torch.Generator) -> Tensor:
    """Shift every image by up to `margin` pixels in each direction; what enters is zero (the mean).

    Args:
        images: (n, c, h, w).
        margin: largest shift, in pixels.
        generator: of the shifts, one pair per image.

    Returns:
        (n, c, h, w).
    """
    count, _, height, width = images.shape
    padded = functional.pad(images, (margin, margin, margin, margin))
    top, left = torch.randint(2 * margin + 1, (2, count), generator=generator)
    rows = (top[:, None] + torch.arange(height))[:, None, :, None]
    columns = (left[:, None] + torch.arange(width))[:, None, None, :]
    batch = torch.arange(count)[:, None, None, None]
    channels = torch.arange(images.shape[1])[None, :, None, None]
    return padded[batch, channels, rows, columns]


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image (n, c, h, w) left to right with probability one half."""
    flipped = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(flipped[:, None, None, None], images.flip(3), images)


def mixed_images(images: Tensor, order: Tensor, share: float) -> Tensor:
    """Blend each image (n, c, h, w) with its partner, `share` of itself (Zhang et al. 2018, section 2).

    Args:
        images: the batch.
        order: each image's partner in the batch, (n,) int64.
        share: 0 to 1.
    """
    return share * images + (1 - share) * images[order]

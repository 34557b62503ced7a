"""Accuracy of a network, in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hwloop.datasets import ImageSet
from hwloop.errors import ModelError

BATCH_SIZE = 500  # images per forward pass: bounds the memory, costs nothing in speed


def predictions(module: nn.Module, images: ImageSet, *, batch_size: int = BATCH_SIZE) -> NDArray[np.int64]:
    """Return the class that a network gives each image, (n,) int64, in evaluation mode and float32, on its device.

    Raises:
        ModelError: The network does not fit the images.
    """
    results: list[NDArray[np.int64]] = []
    parameter = next(module.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    with evaluating(module):
        for start in range(0, len(images), batch_size):
            batch = torch.from_numpy(images.images[start : start + batch_size]).to(device)
            batch = batch.contiguous(memory_format=torch.channels_last)  # a tenth faster on CPUs
            try:
                logits = module(batch)
            except (RuntimeError, IndexError, ValueError, TypeError) as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise ModelError(
                    f"{type(module).__name__} does not take images of shape {tuple(batch.shape[1:])}: {reason}"
                ) from error
            results.append(logits.argmax(1).cpu().numpy())
    return np.concatenate(results) if results else np.zeros(0, dtype=np.int64)


def error_count(module: nn.Module, images: ImageSet, *, batch_size: int = BATCH_SIZE) -> int:
    """Return how many images a network classifies wrongly.

    Raises:
        ModelError: The network does not fit the images.
    """
    return int((predictions(module, images, batch_size=batch_size) != images.labels).sum())


def accuracy(module: nn.Module, images: ImageSet, *, batch_size: int = BATCH_SIZE) -> float:
    """Return the share of images that a network classifies correctly, 0 to 1.

    Raises:
        ModelError: There are no images, or the network does not fit them.
    """
    if len(images) == 0:
        raise ModelError("accuracy needs at least one image")
    return 1.0 - error_count(module, images, batch_size=batch_size) / len(images)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode without gradients inside the block; each module gets its mode back."""
    modes = {child: child.training for child in module.modules()}
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for child, mode in modes.items():
            child.training = mode

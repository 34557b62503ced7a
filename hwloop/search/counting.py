"""The error of a network on the same held-out images again and again, as fast as the processor can."""

from __future__ import annotations

import torch
from torch import nn

from hwloop.datasets import ImageSet
from hwloop.training import evaluating, fast_dtype

BATCH_SIZE = 250  # images per forward pass: small enough for the caches


class ErrorCounter:
    """Counts wrong answers, in bfloat16 where the processor multiplies it in hardware.

    Attributes:
        dtype: what is multiplied in, "float32" or "bfloat16".

    Args:
        images: that networks are judged on; kept in that type, channels last.
    """

    def __init__(self, images: ImageSet) -> None:
        dtype = fast_dtype()
        self.dtype = str(dtype).removeprefix("torch.")
        self._batches = [
            torch.from_numpy(images.images[start : start + BATCH_SIZE])
            .contiguous(memory_format=torch.channels_last)
            .to(dtype)
            for start in range(0, len(images), BATCH_SIZE)
        ]
        self._labels = torch.from_numpy(images.labels)

    def error(self, network: nn.Module) -> float:
        """Share of wrong answers of a network, which is converted for it: give a copy of what is still needed."""
        network.to(dtype=self._batches[0].dtype)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        with evaluating(network):
            found = torch.cat([network(batch).argmax(1) for batch in self._batches])
        return int((found != self._labels).sum()) / len(self._labels)

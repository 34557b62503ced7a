"""Held-out images, as fast as this processor classifies them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hwloop.datasets import ImageSet
from hwloop.errors import ModelError
from hwloop.pruning.folding import fold
from hwloop.training import fast_dtype


class HeldOut:
    """Counts the mistakes of networks on the same images, in the same order.

    Networks are evaluated with folded batch normalisations, channels last, and in bfloat16 where the processor has it
    in hardware, else in float32.

    Attributes:
        dtype: what is multiplied in.
        input_shape: of one image.
        conditions: the settings that a count depends on.
    """

    def __init__(
        self, images: ImageSet, *, limit: int | None = None, batch_size: int = 500, seed: int = 0, fast: bool = True
    ) -> None:
        """Prepare the images, in an order in which every beginning is a fair sample.

        Args:
            images: held out of the training.
            limit: at most so many of them are used.
            batch_size: images per forward pass.
            seed: of their order.
            fast: use bfloat16 where the processor has it in hardware.

        Raises:
            ModelError: There are no images.
        """
        if len(images) < 1:
            raise ModelError("validation has no images: hold at least one out")
        order = np.random.default_rng(seed).permutation(len(images))[:limit]
        self.dtype = fast_dtype() if fast else torch.float32
        self._labels = images.labels[order]
        self._images = channels_last(images.images[order]).to(self.dtype)
        self._batch_size = batch_size
        self.input_shape = tuple(images.images.shape[1:])
        self.conditions: Mapping[str, str] = {
            "held_out_images": str(len(order)),
            "held_out_seed": str(seed),
            "judge_dtype": str(self.dtype).removeprefix("torch."),
        }

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._labels)

    def ready(self, network: nn.Module, pairs: Sequence[tuple[str, str]]) -> None:
        """Bring a network into the form in which it is evaluated, in place; it cannot be trained any more.

        Args:
            network: any network.
            pairs: its foldable batch normalisations (`foldable_pairs`).
        """
        fold(network, pairs)
        network.to(dtype=self.dtype)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs

    def predictions(self, network: nn.Module, begin: int = 0, end: int | None = None) -> NDArray[np.int64]:
        """Return the classes that a ready network gives images `begin` to `end`, (end - begin,) int64."""
        end = len(self) if end is None else end
        with torch.inference_mode():
            found = [
                network(self._images[start : min(start + self._batch_size, end)]).argmax(1)
                for start in range(begin, end, self._batch_size)
            ]
        classes: NDArray[np.int64] = torch.cat(found).numpy()
        return classes

    def errors(self, network: nn.Module, begin: int = 0, end: int | None = None) -> int:
        """Return how many of the images `begin` to `end` a ready network classifies wrongly."""
        return int((self.predictions(network, begin, end) != self._labels[begin:end]).sum())


def channels_last(images: NDArray[np.float32]) -> Tensor:
    """Return images (n, c, h, w) as a tensor whose channels are next to each other in memory."""
    return torch.from_numpy(images).contiguous(memory_format=torch.channels_last)

"""What a criterion may look at besides the weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from hwloop.datasets import ImageSet
from hwloop.datasets.splits import stratified_rows
from hwloop.errors import ModelError, UserError


@dataclass(frozen=True, eq=False)
class Evidence:
    """Images with labels, and a seed. Without images it is enough for the criteria that look at weights alone.

    Attributes:
        images: of the training data, as the network takes them; None where there are none.
        seed: of every random choice of the criterion.
        batch_size: images per pass.
    """

    images: ImageSet | None = None
    seed: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise UserError(f"batch_size is {self.batch_size}: it must be at least 2 (for batch normalisation)")
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}: it must be at least 0")

    @classmethod
    def drawn(cls, train: ImageSet, count: int, *, seed: int = 0, batch_size: int = 64) -> Evidence:
        """Draw `count` training images under the seed, equally of each class; all of them where there are fewer.

        Raises:
            UserError: No image is asked for.
        """
        if count < 1:
            raise UserError(f"{count} images were asked for: a criterion that looks at images needs at least one")
        rows = stratified_rows(train.labels, min(count, len(train)), seed)
        order = np.random.default_rng(seed).permutation(len(rows))  # rows of one class must not share a batch
        return cls(train.take(rows[order]), seed, batch_size)

    def generator(self) -> torch.Generator:
        """Return a fresh generator under the seed: asked twice, it draws the same."""
        return torch.Generator().manual_seed(self.seed)

    def needed_by(self, criterion: str) -> ImageSet:
        """Return the images.

        Raises:
            ModelError: There are none; the text says how to give some.
        """
        if self.images is None or len(self.images) == 0:
            raise ModelError(
                f"criterion {criterion!r} looks at images and got none: give it training images "
                "(evidence=Evidence.drawn(train, 512)), or choose one that looks at weights alone, such as 'l1'"
            )
        return self.images

    def batches(self, criterion: str, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (n, c, h, w) images and (n,) labels on the device, in order; the last batch may be smaller.

        Raises:
            ModelError: There are no images.
        """
        found = self.needed_by(criterion)
        for start in range(0, len(found), self.batch_size):
            part = slice(start, start + self.batch_size)
            yield torch.from_numpy(found.images[part]).to(device), torch.from_numpy(found.labels[part]).to(device)

    @cached_property
    def fingerprint(self) -> str:
        """Return a hash of the images and their labels; of nothing where there are none."""
        digest = hashlib.sha256()
        if self.images is not None:
            digest.update(str(self.images.images.shape).encode())
            digest.update(np.ascontiguousarray(self.images.images).data)
            digest.update(np.ascontiguousarray(self.images.labels).data)
        return digest.hexdigest()[:16]

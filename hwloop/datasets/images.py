"""Images in memory: as read, and as networks take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RawImages:
    """Images as a reader found them.

    Attributes:
        images: (n, c, h, w), uint8 or float32.
        labels: (n,) int64, indices into `classes`.
        classes: names.
        scale: what one is divided by to bring pixels to [0, 1].
        where: the file or folder, for messages.
    """

    images: NDArray[Any]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    scale: float
    where: str


@dataclass(frozen=True)
class ImageSet:
    """Normalised images with labels.

    Attributes:
        images: (n, c, h, w) float32.
        labels: (n,) int64.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(f"images {self.images.shape} and labels {self.labels.shape} do not belong together")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> ImageSet:
        """Return the images of these rows, in their order."""
        return ImageSet(self.images[rows], self.labels[rows])


@dataclass(frozen=True)
class ImageData:
    """A data set, split.

    Attributes:
        name: the source and its files, for people.
        train: what networks are trained on.
        validation: held out of the training data; the search judges candidates on it.
        test: never seen before the final report.
        classes: names, by label.
        mean: per channel, already subtracted.
        std: per channel, already divided by.
        fingerprint: sha256 of the pixels, labels, splits and normalisation.
    """

    name: str
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Return (channels, height, width) of one image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

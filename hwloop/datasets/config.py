"""What a study says about its data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hwloop.errors import DataError

SOURCES = ("digits", "folder", "npz", "parquet")


@dataclass(frozen=True)
class DataConfig:
    """Where images come from and how they are split.

    Attributes:
        source: one of `SOURCES`.
        train: the training data: a Parquet or .npz file, or a folder with one subfolder per class; none for digits.
        test: the test data, of the same kind; None takes `test_fraction` of the training data instead.
        image_size: height and width that every image is resized to (bilinear); None keeps what the files have.
        validation: held out of the training data for the search, a fraction (< 1) or a number of images.
        test_fraction: what becomes the test set where `test` is None and the source has none of its own.
        mean: subtracted from each channel, on pixels in [0, 1]; None measures it on the training split.
        std: each channel is divided by it; None measures it on the training split.
        limit: at most so many images of the training file and of the test file are used, equally of each class.
        seed: of every random choice (splits, limit).
        image_column: the Parquet column of encoded images; None looks for "image" and "img".
        label_column: the Parquet column of labels; None looks for "label", "labels" and "fine_label".
    """

    source: str = "digits"
    train: Path | None = None
    test: Path | None = None
    image_size: int | None = None
    validation: float | int = 0.1
    test_fraction: float = 0.2
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    limit: int | None = None
    seed: int = 0
    image_column: str | None = None
    label_column: str | None = None

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise DataError(f"data source {self.source!r} is unknown: it can be {', '.join(SOURCES)}")
        if self.source == "digits" and (self.train or self.test):
            raise DataError("data source 'digits' is bundled and reads no files: remove train and test")
        if self.source != "digits" and self.train is None:
            raise DataError(f"data source {self.source!r} needs a path: set train")
        if isinstance(self.validation, float) and not 0 < self.validation < 1:
            raise DataError(f"validation is {self.validation}: give a fraction between 0 and 1, or a whole number")
        if isinstance(self.validation, int) and self.validation < 1:
            raise DataError(f"validation is {self.validation}: at least one image must be held out")
        if not 0 < self.test_fraction < 1:
            raise DataError(f"test_fraction is {self.test_fraction}: give a fraction between 0 and 1")
        for name, value in (("image_size", self.image_size), ("limit", self.limit)):
            if value is not None and value < 1:
                raise DataError(f"{name} is {value}: it must be at least 1")
        if self.std is not None and any(value <= 0 for value in self.std):
            raise DataError(f"std is {list(self.std)}: every channel needs a positive value")

"""From a `DataConfig` to normalised, split images."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwloop.datasets.config import DataConfig
from hwloop.datasets.images import ImageData, ImageSet, RawImages
from hwloop.datasets.readers import read_digits, read_folder, read_npz, read_parquet
from hwloop.datasets.splits import other_rows, stratified_rows
from hwloop.errors import DataError
from hwloop.progress import Progress, Silent

_CHUNK = 4096  # rows normalised at once: keeps the peak memory near the size of the result
_SMALLEST_STD = 1e-6  # a channel that is constant stays as it is


def load_images(config: DataConfig, progress: Progress | None = None) -> ImageData:
    """Read, split and normalise images.

    The validation split is held out of the training data, stratified by class under `config.seed`; mean and standard
    deviation are measured on what remains, unless the configuration gives them.

    Args:
        config: what to read.
        progress: told of the decoding of files.

    Returns:
        The data set; the same configuration and files give the same arrays, bit for bit.

    Raises:
        DataError: A file that is missing or unreadable, labels outside the classes, or splits that leave no images.
    """
    train, test = _read(config, progress or Silent())
    if len(train.labels) == 0:
        raise DataError(f"{train.where}: holds no images")
    rows = np.arange(len(train.labels))
    if test is None:
        count = max(1, round(config.test_fraction * len(rows)))
        test_rows = stratified_rows(train.labels, _checked(count, len(rows), "test_fraction", train), config.seed)
        rows = other_rows(len(rows), test_rows)
        test = RawImages(train.images[test_rows], train.labels[test_rows], train.classes, train.scale, train.where)
    test = _as_train(train, test)
    wanted = config.validation
    count = wanted if isinstance(wanted, int) else max(1, round(wanted * len(rows)))
    held_out = stratified_rows(train.labels[rows], _checked(count, len(rows), "validation", train), config.seed + 1)
    validation_rows, train_rows = rows[held_out], rows[other_rows(len(rows), held_out)]
    mean, std = _normalisation(config, train, train_rows)
    digest = hashlib.sha256()
    for part in (
        train.images,
        train.labels,
        train_rows,
        validation_rows,
        test.images,
        test.labels,
        mean,
        std,
    ):
        digest.update(str((part.shape, part.dtype.str)).encode())
        digest.update(np.ascontiguousarray(part).data)
    digest.update("\n".join(train.classes).encode())
    return ImageData(
        name=_name(config),
        train=_normalised(train, train_rows, mean, std),
        validation=_normalised(train, validation_rows, mean, std),
        test=_normalised(test, np.arange(len(test.labels)), mean, std),
        classes=train.classes,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        fingerprint=digest.hexdigest(),
    )


def _read(config: DataConfig, progress: Progress) -> tuple[RawImages, RawImages | None]:
    def pick(labels: NDArray[np.int64]) -> NDArray[np.int64]:
        if config.limit is None or config.limit >= len(labels):
            return np.arange(len(labels))
        return stratified_rows(labels, config.limit, config.seed)

    if config.source == "digits":
        return read_digits(config, pick), None
    assert config.train is not None  # DataConfig requires it for every other source
    if config.source == "npz":
        train = read_npz(config.train, config, pick, None)
        assert train is not None  # only a test part may be absent
        if config.test is None:
            return train, read_npz(config.train, config, pick, train.classes, part="test")
        return train, read_npz(config.test, config, pick, train.classes, part="test file")
    read = read_parquet if config.source == "parquet" else read_folder
    if config.test is not None and not config.test.exists():
        raise DataError(f"{config.test}: no such {'file' if config.source == 'parquet' else 'folder'}")
    train = read(config.train, config, pick, None, progress)
    if config.test is None:
        return train, None
    return train, read(config.test, config, pick, train.classes, progress)


def _checked(count: int, available: int, key: str, train: RawImages) -> int:
    if count >= available:
        raise DataError(
            f"{train.where}: {key} takes {count} of {available} images and leaves none to train on: lower {key}"
        )
    return count


def _as_train(train: RawImages, test: RawImages) -> RawImages:
    """Give the test images the training images' channels; refuse another size."""
    if len(test.labels) == 0:
        raise DataError(f"{test.where}: holds no test images")
    images = test.images
    if images.shape[1] == 1 and train.images.shape[1] == 3:
        images = np.repeat(images, 3, axis=1)
    if images.shape[1:] != train.images.shape[1:]:
        raise DataError(
            f"{test.where}: images of shape {images.shape[1:]}, the training images have {train.images.shape[1:]}: "
            "set image_size, or give images of one kind"
        )
    return RawImages(images, test.labels, train.classes, test.scale, test.where)


def _normalisation(
    config: DataConfig, train: RawImages, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    channels = train.images.shape[1]
    for key, given in (("mean", config.mean), ("std", config.std)):
        if given is not None and len(given) != channels:
            raise DataError(f"{key} has {len(given)} values and the images have {channels} channels")
    total = np.zeros(channels)
    squares = np.zeros(channels)
    for start in range(0, len(rows), _CHUNK):
        pixels = train.images[rows[start : start + _CHUNK]].astype(np.float64) / train.scale
        total += pixels.sum(axis=(0, 2, 3))
        squares += np.square(pixels).sum(axis=(0, 2, 3))
    count = len(rows) * train.images.shape[2] * train.images.shape[3]
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    std[std < _SMALLEST_STD] = 1.0
    return (
        mean if config.mean is None else np.array(config.mean, dtype=np.float64),
        std if config.std is None else np.array(config.std, dtype=np.float64),
    )


def _normalised(
    raw: RawImages, rows: NDArray[np.int64], mean: NDArray[np.float64], std: NDArray[np.float64]
) -> ImageSet:
    images = np.empty((len(rows), *raw.images.shape[1:]), dtype=np.float32)
    factor = (1.0 / (raw.scale * std)).astype(np.float32)[:, None, None]
    shift = (mean / std).astype(np.float32)[:, None, None]
    for start in range(0, len(rows), _CHUNK):
        part = images[start : start + _CHUNK]
        np.multiply(raw.images[rows[start : start + _CHUNK]], factor, out=part, casting="unsafe")
        part -= shift
    return ImageSet(images, raw.labels[rows])


def _name(config: DataConfig) -> str:
    paths: list[Path] = [path for path in (config.train, config.test) if path is not None]
    return " + ".join([config.source, *(path.name for path in paths)])

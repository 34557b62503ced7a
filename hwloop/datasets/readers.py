"""One function per source of images; each returns `RawImages` and names file and row in its errors."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hwloop.datasets.config import DataConfig
from hwloop.datasets.decoding import decode, resize_floats
from hwloop.datasets.images import RawImages
from hwloop.datasets.labels import class_indices
from hwloop.errors import DataError
from hwloop.progress import Progress

Pick = Callable[[NDArray[np.int64]], NDArray[np.int64]]
"""Labels (n,) to the rows that are wanted, ascending."""

_IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels", "fine_label")
_DIGITS_LEVELS = 16.0  # the bundled digits have 17 grey levels


def read_digits(config: DataConfig, pick: Pick) -> RawImages:
    """Read scikit-learn's bundled digits: 1,797 grey images of 8x8 pixels, no network access."""
    from sklearn.datasets import load_digits  # imported here: scikit-learn takes a second to load

    bundled = load_digits()
    labels = np.asarray(bundled.target, dtype=np.int64)
    rows = pick(labels)
    images = np.asarray(bundled.images, dtype=np.float32)[rows][:, None]
    if config.image_size is not None and config.image_size != images.shape[-1]:
        images = resize_floats(images, config.image_size)
    classes = tuple(str(name) for name in bundled.target_names)
    return RawImages(images, labels[rows], classes, _DIGITS_LEVELS, "digits")


def read_parquet(
    path: Path, config: DataConfig, pick: Pick, classes: Sequence[str] | None, progress: Progress
) -> RawImages:
    """Read a Parquet file with a column of encoded images (PNG, JPEG, …) and one of labels.

    The images are bytes, or structs with a field `bytes` (Hugging Face). Class names are taken from the schema's
    metadata: `classes` (separated by commas), or Hugging Face's `ClassLabel`.

    Raises:
        DataError: No such file, no Parquet file, no column, an empty cell or an unreadable image.
    """
    try:
        table = pq.ParquetFile(path)
        schema = table.schema_arrow
        image_column = _column(path, schema, config.image_column, _IMAGE_COLUMNS, "image")
        label_column = _column(path, schema, config.label_column, _LABEL_COLUMNS, "label")
        values = table.read(columns=[label_column]).column(0)
        if values.null_count:
            raise DataError(f"{path}: column {label_column!r} has {values.null_count} empty labels")
        if classes is None:
            classes = _schema_classes(schema, label_column)
        labels, names = class_indices(np.asarray(values.to_numpy()), classes, str(path))
        rows = pick(labels)
        column = table.read(columns=[image_column]).column(0)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: not a readable Parquet file ({reason})") from error
    if pa.types.is_struct(column.type):
        if column.type.get_field_index("bytes") < 0:
            raise DataError(f"{path}: column {image_column!r} is a struct without a field 'bytes'")
        column = pa.chunked_array([chunk.field("bytes") for chunk in column.chunks])
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        raise DataError(f"{path}: column {image_column!r} holds {column.type}, not the bytes of images")

    def encoded() -> Iterator[tuple[str, bytes]]:
        for row, cell in zip(rows.tolist(), column.take(pa.array(rows)).to_pylist(), strict=True):
            if cell is None:
                raise DataError(f"{path}, row {row}: the image is empty")
            yield f"{path}, row {row}", cell

    with progress.step(f"Reading {path.name}", len(rows)) as step:
        images = decode(encoded(), config.image_size, step.advance)
    return RawImages(images, labels[rows], names, 255.0, str(path))


def read_folder(
    path: Path, config: DataConfig, pick: Pick, classes: Sequence[str] | None, progress: Progress
) -> RawImages:
    """Read a folder with one subfolder of image files per class (subfolders sorted by name).

    Files of other kinds (by suffix) and hidden files are not images and are left out.

    Raises:
        DataError: No such folder, no classes, a class without images, a class that the training data do not have,
            or an unreadable image.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder")
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise DataError(f"{path}: has no subfolders; images are expected in one subfolder per class")
    names = tuple(classes) if classes is not None else tuple(folder.name for folder in folders)
    files: list[Path] = []
    labels: list[int] = []
    for folder in folders:
        if folder.name not in names:
            raise DataError(f"{folder}: the training data have no class {folder.name!r}")
        found = sorted(file for file in folder.iterdir() if _is_image(file))
        if not found:
            raise DataError(f"{folder}: holds no image files ({', '.join(sorted(_IMAGE_SUFFIXES))})")
        files += found
        labels += [names.index(folder.name)] * len(found)
    indices = np.array(labels, dtype=np.int64)
    rows = pick(indices)
    with progress.step(f"Reading {path.name}", len(rows)) as step:
        images = decode(((str(files[row]), files[row]) for row in rows), config.image_size, step.advance)
    return RawImages(images, indices[rows], names, 255.0, str(path))


def read_npz(
    path: Path, config: DataConfig, pick: Pick, classes: Sequence[str] | None, *, part: str = "train"
) -> RawImages | None:
    """Read arrays from a .npz file (never unpickled).

    Keys, first match wins: for the training part `x_train`/`y_train` (Keras), `train_images`/`train_labels`
    (MedMNIST), `images`/`labels`, `x`/`y`; for the test part `x_test`/`y_test`, `test_images`/`test_labels`, and in a
    file of its own also the last two. Images are (n, h, w), (n, h, w, c) or (n, c, h, w) with c = 1 or 3; uint8
    is divided by 255, floats are taken as they are. Labels are (n,) or (n, 1).

    Args:
        path: the file.
        config: gives the image size.
        pick: chooses the rows.
        classes: names of the training data, for a test part.
        part: "train", "test" (a test part beside the training part: may be absent), or "test file".

    Returns:
        The images; None for an absent test part.

    Raises:
        DataError: No such file, no .npz, missing keys, or shapes that are no images.
    """
    split = "train" if part == "train" else "test"
    keys = [(f"x_{split}", f"y_{split}"), (f"{split}_images", f"{split}_labels")]
    if part != "test":
        keys += [("images", "labels"), ("x", "y")]
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise DataError(f"{path}: holds one array; a .npz file with images and labels is needed")
            pair = next((pair for pair in keys if set(pair) <= set(arrays.files)), None)
            if pair is None and part == "test":
                return None
            if pair is None:
                wanted = ", ".join("/".join(pair) for pair in keys)
                raise DataError(f"{path}: has {', '.join(arrays.files) or 'nothing'}; needed is one of {wanted}")
            images, values = arrays[pair[0]], arrays[pair[1]]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: not a readable .npz file of plain arrays ({reason})") from error
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    labels, names = class_indices(values, classes, f"{path}, {pair[1]}")
    images = _channels_first(images, f"{path}, {pair[0]}")
    if len(images) != len(labels):
        raise DataError(f"{path}: {len(images)} images in {pair[0]} and {len(labels)} labels in {pair[1]}")
    rows = pick(labels)
    scale = 255.0 if images.dtype == np.uint8 else 1.0
    images = images[rows]
    if config.image_size is not None and images.shape[2:] != (config.image_size, config.image_size):
        images = resize_floats(images, config.image_size)
    return RawImages(images, labels[rows], names, scale, str(path))


def _channels_first(images: NDArray[Any], where: str) -> NDArray[Any]:
    if images.dtype.kind not in "uif":
        raise DataError(f"{where}: images are of type {images.dtype}, numbers are needed")
    if images.dtype.kind in "ui" and images.dtype != np.uint8:
        raise DataError(f"{where}: images are of type {images.dtype}; give uint8 (0 to 255) or floats")
    if images.dtype.kind == "f":
        images = images.astype(np.float32)
        if not np.isfinite(images).all():
            raise DataError(f"{where}: images contain values that are not finite")
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return images
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    raise DataError(f"{where}: shape {images.shape} is none of (n, h, w), (n, h, w, 1 or 3), (n, 1 or 3, h, w)")


def _column(path: Path, schema: pa.Schema, wanted: str | None, usual: tuple[str, ...], kind: str) -> str:
    names = schema.names
    candidates = (wanted,) if wanted is not None else usual
    found = next((name for name in candidates if name in names), None)
    if found is None:
        raise DataError(
            f"{path}: no {kind} column ({' or '.join(repr(name) for name in candidates)}); the file has "
            f"{', '.join(names) or 'no columns'}: set {kind}_column"
        )
    return found


def _schema_classes(schema: pa.Schema, label_column: str) -> list[str] | None:
    metadata = schema.metadata or {}
    if b"classes" in metadata:
        return str(metadata[b"classes"].decode()).split(",")
    if b"huggingface" in metadata:
        try:
            features = json.loads(metadata[b"huggingface"])["info"]["features"]
            names = features[label_column].get("names")
        except (ValueError, KeyError, TypeError, AttributeError):
            return None  # metadata of another shape; the labels then name themselves
        return [str(name) for name in names] if names else None
    return None


def _is_image(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".") and file.suffix.lower() in _IMAGE_SUFFIXES

"""Images on the command line: where they are, and how they are split and normalised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwloop.errors import DataError, UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwloop.datasets import ImageData
    from hwloop.progress import Progress

Data = Annotated[str, typer.Option("--data", help="digits (bundled), a .parquet or .npz file, or a folder of classes.")]
Test = Annotated[Path | None, typer.Option("--test", help="Test images of the same kind; else a part of --data.")]
ImageSize = Annotated[int, typer.Option("--image-size", min=0, help="Resize images to so many pixels; 0: as they are.")]
Limit = Annotated[int, typer.Option("--limit", min=0, help="Use so many images of each file at most; 0: all.")]
Validation = Annotated[
    float, typer.Option("--validation", help="Held out of the training images: a share below 1, or a number.")
]
Mean = Annotated[str, typer.Option("--mean", help="Per channel, as in 0.49,0.48,0.45; the weights' own, or measured.")]
Std = Annotated[str, typer.Option("--std", help="Per channel, likewise.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of everything random: splits, initial weights, training.")]
Arguments = Annotated[
    list[str] | None, typer.Option("--argument", help="Of the model's factory, as in widths=[8,16,32]; repeatable.")
]


def load(
    data: str,
    test: Path | None,
    image_size: int,
    limit: int,
    validation: float,
    mean: str,
    std: str,
    seed: int,
    known: tuple[Sequence[float], Sequence[float]] | None,
    progress: Progress,
) -> ImageData:
    """Read what the options say.

    Args:
        data: see the options above.
        test: likewise.
        image_size: likewise.
        limit: likewise.
        validation: likewise.
        mean: likewise.
        std: likewise.
        seed: likewise.
        known: mean and standard deviation that the weights were trained with; the options win.
        progress: is told of decoding.

    Raises:
        DataError: the images cannot be read.
        UserError: an option is no number.
    """
    from hwloop.datasets import DataConfig, load_images

    usual = known or (None, None)
    config = DataConfig(
        source=_source(data),
        train=None if data == "digits" else Path(data),
        test=test,
        image_size=image_size or None,
        validation=validation if validation < 1 else int(validation),
        mean=_numbers("--mean", mean) or (None if usual[0] is None else tuple(usual[0])),
        std=_numbers("--std", std) or (None if usual[1] is None else tuple(usual[1])),
        limit=limit or None,
        seed=seed,
    )
    return load_images(config, progress)


def arguments_of(given: list[str] | None) -> dict[str, Any]:
    """Read "name=value" with JSON values; a value that is no JSON is a text.

    Raises:
        UserError: one has no "=".
    """
    found: dict[str, Any] = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UserError(f"--argument {text}: give a name and a value, as in widths=[8,16,32]")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _source(data: str) -> str:
    if data == "digits":
        return "digits"
    suffix = Path(data).suffix
    if suffix in (".parquet", ".npz"):
        return suffix[1:]
    if Path(data).is_dir():
        return "folder"
    raise DataError(f"--data {data}: give digits, a .parquet or .npz file, or a folder with one subfolder per class")


def _numbers(option: str, text: str) -> tuple[float, ...] | None:
    if not text:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"{option} {text}: give one number per channel, separated by commas") from error

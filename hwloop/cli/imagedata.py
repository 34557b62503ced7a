"""Images on the command line: where they are, and how they are split and normalised."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwloop.errors import DataError, UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwloop.datasets import ImageData
    from hwloop.progress import Progress


@dataclass(frozen=True)
class Images:
    """What commands that read images have in common."""

    data: Annotated[str, typer.Option(help="digits (bundled), a .parquet or .npz file, or a folder of classes.")] = (
        "digits"
    )
    test: Annotated[Path | None, typer.Option(help="Test images of the same kind; else a part of --data.")] = None
    image_size: Annotated[int, typer.Option(min=0, help="Resize images to so many pixels; 0: as they are.")] = 0
    limit: Annotated[int, typer.Option(min=0, help="Use so many images of each file at most; 0: all.")] = 0
    validation: Annotated[
        float, typer.Option(help="Held out of the training images: a share below 1, or a number.")
    ] = 0.1
    mean: Annotated[str, typer.Option(help="Per channel, as in 0.49,0.48,0.45; the weights' own, or measured.")] = ""
    std: Annotated[str, typer.Option(help="Per channel, likewise.")] = ""
    argument: Annotated[
        list[str] | None,
        typer.Option(help="Of the model's factory, as in widths=[8,16,32]; repeatable."),
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="Of everything random: splits, initial weights, training.")] = 0

    def load(self, known: tuple[Sequence[float], Sequence[float]] | None, progress: Progress) -> ImageData:
        """Read what the options say.

        Args:
            known: mean and standard deviation that the weights were trained with; the options win.
            progress: is told of decoding.

        Raises:
            DataError: the images cannot be read.
            UserError: an option is no number.
        """
        from hwloop.datasets import DataConfig, load_images

        usual = known or (None, None)
        config = DataConfig(
            source=_source(self.data),
            train=None if self.data == "digits" else Path(self.data),
            test=self.test,
            image_size=self.image_size or None,
            validation=self.validation if self.validation < 1 else int(self.validation),
            mean=_numbers("--mean", self.mean) or (None if usual[0] is None else tuple(usual[0])),
            std=_numbers("--std", self.std) or (None if usual[1] is None else tuple(usual[1])),
            limit=self.limit or None,
            seed=self.seed,
        )
        return load_images(config, progress)

    @property
    def arguments(self) -> dict[str, Any]:
        """Return "name=value" with JSON values; a value that is no JSON is a text.

        Raises:
            UserError: one has no "=".
        """
        found: dict[str, Any] = {}
        for text in self.argument or []:
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

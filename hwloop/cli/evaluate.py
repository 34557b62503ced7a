"""`hwloop evaluate`: how often a network is right, from its weights or from the file that is shipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from hwloop.cli import imagedata, recipe
from hwloop.cli.options import grouped
from hwloop.errors import UserError

if TYPE_CHECKING:
    from hwloop.datasets import ImageData, ImageSet

PARTS = ("test", "validation", "train")

Part = Annotated[str, typer.Option("--part", help="Of the images: test, validation or train.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate")(evaluate)


@grouped
def evaluate(
    *,
    model: Annotated[str, typer.Argument(help="A network with --weights, or a file: .onnx, .tflite, .pt2, .so (TVM).")],
    weights: Annotated[Path | None, typer.Option(help="Weights of a network of the zoo or a factory.")] = None,
    source: imagedata.Images,
    part: Part = "test",
    as_json: recipe.AsJson = False,
) -> None:
    """Print top-1 accuracy with its 95 % interval; a file is called by its own runtime."""
    from hwloop.cli.display import Display
    from hwloop.cli.top1 import told, top1
    from hwloop.runtimes.inference import SUFFIXES
    from hwloop.study.exported import count_correct, normalisation
    from hwloop.study.network import open_network, read_description
    from hwloop.training import error_count

    console = Console(stderr=as_json)
    progress = Display(console)
    suffix = Path(model).suffix if ":" not in model else ""
    if suffix in SUFFIXES:
        if weights is not None:
            raise UserError(f"--weights: {model} has its own; leave the option out")
        content = _content(Path(model))
        images = source.load(normalisation(content) if suffix == ".onnx" else None, progress)
        chosen, how = part_of(images, part), f"the runtime of {suffix} files"
        correct = count_correct(content, chosen, suffix, model)
    else:
        if weights is None:
            raise UserError(f"--weights is missing: {model} is no exported file ({', '.join(SUFFIXES)})")
        described = read_description(weights)
        images = source.load(described.normalisation if described else None, progress)
        network = open_network(model, weights, images, arguments=source.arguments, folder=Path.cwd())
        chosen, how = part_of(images, part), "torch, float32"
        correct = len(chosen) - error_count(network.module, chosen)
    found: dict[str, Any] = top1(correct, len(chosen))
    if as_json:
        typer.echo(json.dumps({"model": model, "data": images.name, "part": part, "method": how} | found, indent=1))
    else:
        console.print(f"top-1 on the {part} images of {images.name}: {told(found)}, by {how}", highlight=False)


def part_of(images: ImageData, part: str) -> ImageSet:
    """The images that --part names.

    Raises:
        UserError: there is no such part.
    """
    if part not in PARTS:
        raise UserError(f"--part {part}: it is one of {', '.join(PARTS)}")
    found: ImageSet = getattr(images, part)
    return found


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error

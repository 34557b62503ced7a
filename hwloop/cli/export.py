"""`hwloop export`: the file that is shipped, refused where it does not answer as the network does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from hwloop.cli import imagedata, recipe
from hwloop.cli.evaluate import Part, part_of
from hwloop.cli.options import grouped
from hwloop.cli.train import require_folder
from hwloop.errors import ModelError, UserError

if TYPE_CHECKING:
    from collections.abc import Callable

SUFFIXES = {"onnx": ".onnx", "tflite": ".tflite", "program": ".pt2", "tvm": ".so"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export")(export)


@grouped
def export(
    *,
    model: Annotated[str, typer.Argument(help="A network of the zoo, or package.module:factory.")],
    weights: Annotated[Path, typer.Option(help="Its weights, as `hwloop train` and `hwloop prune` write them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file; its suffix may say the format.")],
    to: Annotated[
        str, typer.Option("--to", help="onnx, tflite, program (torch.export) or tvm (for this machine).")
    ] = "",
    source: imagedata.Images,
    part: Part = "test",
    tolerance: Annotated[int, typer.Option(min=0, help="So many right answers more or fewer are accepted.")] = 0,
    as_json: recipe.AsJson = False,
) -> None:
    """Export a network, and write the file only when it gives as many right answers as the network does."""
    from hwloop.cli.display import Display
    from hwloop.cli.top1 import told, top1
    from hwloop.files import write_atomic
    from hwloop.study.exported import count_correct, exported_program, onnx_file, tflite_file, tvm_library
    from hwloop.study.network import TrainedNetwork, open_network, read_description
    from hwloop.training import error_count

    kind = _format(to, out)
    writers: dict[str, Callable[[TrainedNetwork], bytes]] = {
        "onnx": onnx_file,
        "tflite": lambda one: tflite_file(one.module, one.description.input_shape),
        "program": lambda one: exported_program(one.module, one.description.input_shape),
        "tvm": lambda one: tvm_library(one.module, one.description.input_shape),
    }
    require_folder(out)
    console = Console(stderr=as_json)
    described = read_description(weights)
    images = source.load(described.normalisation if described else None, Display(console))
    chosen = part_of(images, part)
    network = open_network(model, weights, images, arguments=source.arguments, folder=Path.cwd())
    content = writers[kind](network)
    wanted = len(chosen) - error_count(network.module, chosen)
    correct = count_correct(content, chosen, SUFFIXES[kind], out.name)
    if abs(correct - wanted) > tolerance:
        raise ModelError(
            f"{out}: not written: the {kind} file gives {correct} right answers and the network {wanted}, "
            f"{abs(correct - wanted)} of {len(chosen)} images apart; --tolerance accepts some"
        )
    write_atomic(out, content)
    found = {"file": str(out), "format": kind, "bytes": len(content), "torch_correct": wanted} | top1(
        correct, len(chosen)
    )
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    else:
        console.print(f"{out}: {len(content) / 1e6:.2f} MB", highlight=False, markup=False, soft_wrap=True)
        console.print(f"top-1 on the {part} images: {told(found)}, as the network itself ({wanted})", highlight=False)


def _format(to: str, out: Path) -> str:
    """The format that is asked for, or that the file's suffix says."""
    kind = to or next((name for name, suffix in SUFFIXES.items() if suffix == out.suffix), "")
    if kind not in SUFFIXES:
        raise UserError(f"--to {to or out.suffix or 'nothing'}: it is one of {', '.join(SUFFIXES)}")
    if out.suffix != SUFFIXES[kind]:
        raise UserError(
            f"--out {out}: files of the format {kind} are called {SUFFIXES[kind]}, so that it is known by its name"
        )
    return kind

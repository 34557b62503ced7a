"""`hwloop train`: weights for a network of the zoo, or of the user's own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from hwloop.cli import imagedata, recipe
from hwloop.cli.options import grouped

if TYPE_CHECKING:
    from torch import nn

    from hwloop.datasets import ImageData
    from hwloop.progress import Progress
    from hwloop.training import FitReport


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train)


@grouped
def train(
    *,
    model: Annotated[str, typer.Argument(help="A network of the zoo, or package.module:factory.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The checkpoint; run again to go on with it.")],
    source: imagedata.Images,
    weights: Annotated[Path | None, typer.Option(help="Start from these; pruned networks are known by them.")] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="Weights of the teacher, for --distillation, --attention.")
    ] = None,
    teacher_model: Annotated[str, typer.Option(help="Its network; MODEL by default.")] = "",
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 10,
    learning_rate: recipe.LearningRate = 0.05,
    fitting: recipe.Recipe,
    as_json: recipe.AsJson = False,
) -> None:
    """Train a network; killed and run again, it goes on to the same weights."""
    # Imported here: the command line must answer at once, and these bring torch along.
    import torch

    from hwloop.cli.display import Display
    from hwloop.study.network import Description, open_network, read_description

    config = fitting.config(epochs, learning_rate, source.seed)
    require_folder(out)
    console = Console(stderr=as_json)
    progress = Display(console)
    described = read_description(weights) if weights else None
    images = source.load(described.normalisation if described else None, progress)
    if weights is not None:
        network = open_network(model, weights, images, arguments=source.arguments, folder=Path.cwd())
        module, description = network.module, network.description
    else:
        description = Description.of(model, images, source.arguments)
        torch.manual_seed(source.seed)  # the initial weights are part of what a seed decides
        module = description.build(Path.cwd())
    shown = (
        open_network(teacher_model or model, teacher, images, folder=Path.cwd()).module if teacher is not None else None
    )
    about = {"network": description.text, "data": images.fingerprint}
    about |= {name: digest(path) for name, path in (("start", weights), ("teacher", teacher)) if path is not None}
    report, found = fit_and_judge(module, images, config, out, about, shown, fitting.save_every, progress)
    tell(found | described_run(report), out, console, as_json)


def fit_and_judge(
    module: nn.Module,
    images: ImageData,
    config: Any,
    out: Path,
    about: dict[str, str],
    teacher: nn.Module | None,
    save_every: float,
    progress: Progress,
) -> tuple[FitReport, dict[str, Any]]:
    """Train with checkpoints, then count right answers on the held-out and the test images, in float32."""
    from hwloop.training import Checkpoints, fit

    report = fit(
        module,
        images.train,
        config=config,
        teacher=teacher,
        checkpoints=Checkpoints(out, about, save_every),
        progress=progress,
    )
    return report, accuracies(module, images)


def accuracies(module: nn.Module, images: ImageData) -> dict[str, Any]:
    """Top-1 on the held-out and the test images, in float32."""
    from hwloop.cli.top1 import top1
    from hwloop.training import error_count

    parts = {"validation": images.validation, "test": images.test}
    return {name: top1(len(part) - error_count(module, part), len(part)) for name, part in parts.items()}


def described_run(report: FitReport) -> dict[str, Any]:
    """What a training was, as JSON-able data."""
    return {
        "losses": list(report.losses),
        "training_accuracies": list(report.accuracies),
        "steps": report.steps,
        "dtype": report.dtype,
        "torch_device": report.device,
        "attention_points": list(report.points),
    }


def tell(found: dict[str, Any], out: Path, console: Console, as_json: bool) -> None:
    """Print what a training came to."""
    from hwloop.cli.top1 import told

    if as_json:
        typer.echo(json.dumps({"weights": str(out)} | found, indent=1))
        return
    console.print(
        f"trained in {found['dtype']} on {found['torch_device']}: loss {found['losses'][0]:.3f} → "
        f"{found['losses'][-1]:.3f} in {len(found['losses'])} epochs",
        highlight=False,
    )
    for part in ("validation", "test"):
        console.print(f"top-1 on the {part} images: {told(found[part])}", highlight=False)
    console.print(f"weights: {out}", highlight=False, markup=False, soft_wrap=True)


def digest(path: Path) -> str:
    """Hash of a file that a training depends on."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def require_folder(out: Path) -> None:
    """Make the folder of a result, before hours are spent on it."""
    from hwloop.errors import UserError

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: its folder cannot be made ({error.strerror})") from error
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder; give a file")

"""`hwloop table build|show`: the layers of a network, measured on a device."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from hwloop.errors import UserError

if TYPE_CHECKING:
    from hwloop.layers import Network

app = typer.Typer(help="Build and show latency tables.", no_args_is_help=True)


def register(parent: typer.Typer) -> None:
    """Add the commands of this group."""
    parent.add_typer(app, name="table")


@app.command("build")
def build(
    model: Annotated[str, typer.Argument(help="An ONNX file, a network of the zoo, or package.module:factory.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The table (Parquet); its journal lies beside it.")],
    device: Annotated[str, typer.Option(help="A name of `hwloop device list`.")] = "local",
    runtime: Annotated[str, typer.Option(help="onnxruntime or litert.")] = "onnxruntime",
    input_shape: Annotated[str, typer.Option("--input", help="Of a network of the zoo: CxHxW.")] = "3x32x32",
    threads: Annotated[int, typer.Option(min=1, help="Of the runtime.")] = 1,
    processes: Annotated[int, typer.Option(min=1, help="Fresh processes per layer.")] = 2,
) -> None:
    """Measure every layer of a network on a device; run it again to go on where it stopped."""
    # Imported here: the command line must answer at once, and these bring torch along.
    from hwloop.cli.display import Display
    from hwloop.devices import Inventory
    from hwloop.measurement import Bench, CampaignPlan, TrialStore
    from hwloop.runtimes import get_runtime
    from hwloop.tables import measure_layers

    console = Console()
    progress = Display(console)
    chosen = get_runtime(runtime)
    network = _network(model, input_shape)
    for node in network.unsupported:
        progress.say(f"{node.name} cannot be measured: {node.layer.detail}")
    output.parent.mkdir(parents=True, exist_ok=True)
    session = "table-" + hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:16]
    journal = output.with_suffix(".trials.ndjson")
    with TrialStore(journal) as store:
        if store.cut_bytes:
            progress.say(f"{journal.name}: {store.cut_bytes} damaged bytes at the end were cut and kept beside it")
        plan = CampaignPlan(processes=processes, threads=threads)
        bench = Bench(Inventory.find().get(device), session, store, plan, progress)
        identity = bench.identify(output.with_suffix(".device.json"))
        table = measure_layers(network.layers, chosen, bench, identity, f"layers on {device}")
    table.save(output)
    _print(output, console)


@app.command("show")
def show(path: Annotated[Path, typer.Argument(help="A latency table.")]) -> None:
    """Print a table."""
    _print(path, Console())


def _print(path: Path, console: Console) -> None:
    from hwloop.tables import LatencyTable

    table = LatencyTable.load(path)
    context = table.context
    if context is not None:
        console.print(
            f"{context.device} ({context.cpu}), {context.runtime} {context.runtime_version}, threads {context.threads}",
            highlight=False,
        )
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("layer", "ms", "interval", "model MB", "status"):
        shown.add_column(name, justify="left" if name in ("layer", "status") else "right", overflow="fold")
    for row in table.rows:
        usable = row.usable
        shown.add_row(
            row.key,
            f"{row.latency_ms:.4f}" if usable else "–",
            f"{row.low_ms:.4f}–{row.high_ms:.4f}" if usable else "–",
            f"{row.model_bytes / 1e6:.2f}" if usable else "–",
            row.status if not row.reasons else f"{row.status}: {'; '.join(row.reasons)}",
        )
    console.print(shown)


def _network(model: str, input_shape: str) -> Network:
    from hwloop.extraction import network_from_onnx, network_from_torch
    from hwloop.models import build_model

    if model.endswith(".onnx"):
        return network_from_onnx(Path(model))
    try:
        shape = tuple(int(size) for size in input_shape.split("x"))
        channels, height, _ = shape
    except ValueError as error:
        raise UserError(f"--input {input_shape}: give channels, height and width, as in 3x32x32") from error
    module = build_model(model, num_classes=10, in_channels=channels, image_size=height, folder=Path.cwd())
    return network_from_torch(module.eval(), shape)

"""`hwloop table build|show`: the layers of a network, measured on a device. Its other commands have files beside."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from hwloop.cli import table_compare, table_edit, table_exchange, table_list, table_plot
from hwloop.cli.shape import shape_of
from hwloop.errors import DeviceError, UserError

if TYPE_CHECKING:
    from hwloop.devices import Device
    from hwloop.measurement import CampaignPlan
    from hwloop.profiling import Model
    from hwloop.progress import Progress
    from hwloop.runtimes import Runtime
    from hwloop.tables import LatencyTable

app = typer.Typer(help="Build and show latency tables.", no_args_is_help=True)


def register(parent: typer.Typer) -> None:
    """Add the commands of this group."""
    for commands in (table_edit, table_compare, table_exchange, table_list, table_plot):
        commands.register(app)
    parent.add_typer(app, name="table")


@app.command("build")
def build(
    model: Annotated[str, typer.Argument(help="An ONNX file, a network of the zoo, or package.module:factory.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="The table (Parquet), of several devices their folder; journals lie beside."
        ),
    ],
    device: Annotated[
        list[str] | None,
        typer.Option(help="A name of `hwloop device list`; again for devices that are measured at the same time."),
    ] = None,
    runtime: Annotated[
        str, typer.Option(help="onnxruntime, litert, tvm or torch, with a variant behind a colon: litert:int8.")
    ] = "onnxruntime",
    input_shape: Annotated[
        str, typer.Option("--input", help="Of a torch network: CxHxW; what it was published for by default.")
    ] = "",
    threads: Annotated[int, typer.Option(min=1, help="Of the runtime.")] = 1,
    processes: Annotated[int, typer.Option(min=1, help="Fresh processes per layer.")] = 2,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try layers without a number once more, quarantined ones too.")
    ] = False,
    target_error: Annotated[
        str,
        typer.Option(
            help="Of a network's pruning space: layers and networks are measured until nine of ten networks are"
            " expected within this error (5%); the predictor lies beside the table.",
        ),
    ] = "",
    max_layers: Annotated[int, typer.Option(min=1, help="With --target-error: at most so many layers.")] = 400,
    max_networks: Annotated[int, typer.Option(min=4, help="With --target-error: at most so many networks.")] = 30,
    minutes: Annotated[float, typer.Option(min=0.01, help="With --target-error: of measuring, at most.")] = 10.0,
    grain: Annotated[int, typer.Option(min=1, help="With --target-error: step of the widths.")] = 8,
    held_out: Annotated[
        int, typer.Option(min=0, help="With --target-error: further networks, for `hwloop predictor evaluate`.")
    ] = 0,
) -> None:
    """Measure every layer of a network on one device or several; run it again to go on where it stopped."""
    # Imported here: the command line must answer at once, and these bring torch along.
    from hwloop.cli.display import Display
    from hwloop.cli.fleet import FleetDisplay
    from hwloop.cli.listing import print_table
    from hwloop.devices import Inventory
    from hwloop.measurement import CampaignPlan, run_fleet
    from hwloop.profiling import open_model
    from hwloop.runtimes import get_runtime, own_suffixes

    console = Console()
    inventory = Inventory.find()
    devices = [inventory.get(name) for name in dict.fromkeys(device or ["local"])]
    if len(devices) > 1 and output.suffix == ".parquet":
        raise UserError(f"--output {output}: the tables of several devices need a folder, as in -o tables/")
    plan = CampaignPlan(processes=processes, threads=threads, retry_failed=retry_failed)
    chosen = get_runtime(runtime)
    if target_error:
        from hwloop.cli.predictor import build_to_target, share_of
        from hwloop.study.space_campaign import Spending

        if len(devices) > 1:
            raise UserError("--target-error: the space of a network is sampled on one device at a time")
        spending = Spending(max_layers, max_networks, 60 * minutes, share_of(target_error))
        build_to_target(
            model,
            output,
            devices[0],
            chosen,
            spending,
            input_shape=input_shape,
            threads=threads,
            grain=grain,
            held_out=held_out,
            progress=Display(console),
        )
        return
    source = open_model(model, own_suffixes(), input_shape=shape_of(input_shape), classes=None)
    make = partial(_measure, model=source, runtime=chosen, plan=plan)
    if len(devices) == 1:
        table = make(devices[0], output, Display(console))
        print_table(table, console)
        return
    with FleetDisplay(console) as display:
        outcomes = run_fleet(
            {one.name: partial(make, one, output / f"{one.name}.parquet", display.line(one.name)) for one in devices}
        )
    for name, outcome in outcomes.items():
        if outcome.result is None:
            console.print(f"{name}: failed: {outcome.error}", markup=False, soft_wrap=True)
        else:
            lacking = sum(not row.usable for row in outcome.result.rows)
            without = f", {lacking} of them without a latency" if lacking else ""
            console.print(
                f"{name}: complete, {_layers(len(outcome.result))}{without}: {output / name}.parquet", soft_wrap=True
            )
    failed = [name for name, outcome in outcomes.items() if outcome.error is not None]
    if failed:
        raise DeviceError(
            f"{len(failed)} of {len(devices)} devices are not complete: {', '.join(failed)};"
            " what they have measured is kept, run the same command again to go on"
        )


def _layers(count: int) -> str:
    return "1 layer" if count == 1 else f"{count} layers"


def _measure(
    device: Device, output: Path, progress: Progress, *, model: Model, runtime: Runtime, plan: CampaignPlan
) -> LatencyTable:
    """Measure one device's table, or go on with it, and write it to `output`."""
    from hwloop.measurement import Bench, TrialStore
    from hwloop.tables import measure_layers

    output.parent.mkdir(parents=True, exist_ok=True)
    session = "table-" + hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:16]
    journal = output.with_suffix(".trials.ndjson")
    with TrialStore(journal) as store:
        if store.cut_bytes:
            progress.say(f"{journal.name}: {store.cut_bytes} damaged bytes at the end were cut and kept beside it")
        bench = Bench(device, session, store, plan, progress)
        identity = bench.identify(output.with_suffix(".device.json"))
        fitting = runtime.for_device(identity.facts)
        network = model.network(fitting.fusion)
        for node in network.unsupported:
            progress.say(f"{node.name} cannot be measured: {node.layer.detail}")
        table = measure_layers(network.layers, fitting, bench, identity, f"layers on {device.name}")
    table.save(output)
    return table


@app.command("show")
def show(
    path: Annotated[Path, typer.Argument(help="A latency table.")],
    reasons: Annotated[bool, typer.Option("--reasons", help="Every layer's reasons in full.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
) -> None:
    """Print a table."""
    from hwloop.cli import listing
    from hwloop.tables import LatencyTable

    table = LatencyTable.load(path)
    if as_json:
        typer.echo(listing.as_json(table))
    else:
        listing.print_table(table, Console(), reasons=reasons)

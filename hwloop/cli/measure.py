"""`hwloop measure`: one network, one device, one runtime, one command."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hwloop.cli.shape import shape_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("measure")(measure)


def measure(
    model: Annotated[
        str, typer.Argument(help="A network of the zoo, package.module:factory, or a file: .onnx, .tflite, …")
    ],
    device: Annotated[str, typer.Option(help="A name of `hwloop device list`.")] = "local",
    runtime: Annotated[
        str, typer.Option(help="With a variant behind a colon: litert:int8, onnxruntime:provider=xnnpack.")
    ] = "onnxruntime",
    threads: Annotated[int, typer.Option(min=1, help="Of the runtime.")] = 1,
    layers: Annotated[bool, typer.Option("--layers", help="Measure every layer alone too.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="The runtime's own profile, from a run apart.")] = False,
    processes: Annotated[int, typer.Option(min=1, help="Fresh processes for each number.")] = 3,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try what has no number once more.")] = False,
    input_shape: Annotated[
        str, typer.Option("--input", help="Of a torch network: CxHxW; what it was published for by default.")
    ] = "",
    classes: Annotated[int, typer.Option(min=0, help="Outputs of a torch network; 0: as published.")] = 0,
    json_file: Annotated[str, typer.Option("--json", help="Write the result there; - is stdout.")] = "",
    state: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder with the journal of all trials; run again to go on with it."),
    ] = None,
) -> None:
    """Measure a network: end to end, its layers, a profile, memory; every number with its interval and method."""
    # Imported here: the command line must answer at once.
    from hwloop.cli.display import Display
    from hwloop.cli.measured import show
    from hwloop.devices import Inventory
    from hwloop.measurement import Bench, CampaignPlan, TrialStore
    from hwloop.profiling import Wanted, as_json, measure_network, open_model, save_result
    from hwloop.runtimes import get_runtime, own_suffixes

    # What people read goes to stderr when the result itself is on stdout.
    console = Console(stderr=json_file == "-")
    progress = Display(console)
    chosen = get_runtime(runtime)
    network = open_model(model, own_suffixes(), input_shape=shape_of(input_shape), classes=classes or None)
    folder = state or _default_state(json_file, model, device, chosen.label, threads)
    folder.mkdir(parents=True, exist_ok=True)
    with TrialStore(folder / "trials.ndjson") as store:
        if store.cut_bytes:
            progress.say(f"{store.path}: {store.cut_bytes} damaged bytes at the end were cut and kept beside it")
        plan = CampaignPlan(processes=processes, threads=threads, retry_failed=retry_failed)
        bench = Bench(Inventory.find().get(device), _session(folder), store, plan, progress)
        identity = bench.identify(folder / f"device-{device}.json")
        wanted = Wanted(layers=layers, profile=profile)
        result = measure_network(network, chosen.for_device(identity.facts), bench, identity, wanted)
    if json_file == "-":
        typer.echo(as_json(result))
    elif json_file:
        save_result(result, Path(json_file))
    show(result, console)
    if not result.end_to_end.usable:
        raise typer.Exit(1)


def _default_state(json_file: str, model: str, device: str, runtime: str, threads: int) -> Path:
    """Beside the result where it has a file, else one folder per question below the working directory."""
    if json_file and json_file != "-":
        return Path(json_file).with_suffix(".state")
    question = hashlib.sha256(f"{model} {device} {runtime} {threads}".encode()).hexdigest()[:12]
    return Path(".hwloop") / f"measure-{question}"


def _session(folder: Path) -> str:
    return "measure-" + hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]

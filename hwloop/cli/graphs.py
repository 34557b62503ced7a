"""`hwloop graphs prune`: graphs and the network on them, pruned together, with measured cost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from hwloop.cli.display import print_whole
from hwloop.errors import UserError
from hwloop.files import write_atomic

if TYPE_CHECKING:
    from hwloop.graphs import CurvePoint
    from hwloop.graphs.costs import Measured
    from hwloop.measurement import Bench
    from hwloop.progress import Progress
    from hwloop.runtimes import Runtime

app = typer.Typer(help="Prune graph neural networks and their graphs.", no_args_is_help=True)


def register(parent: typer.Typer) -> None:
    """Add the commands of this group."""
    parent.add_typer(app, name="graphs")


@app.command("prune")
def prune(
    dataset: Annotated[
        str, typer.Argument(help="cora, citeseer, mnist-superpixels, or a file that torch-geometric wrote.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run; run again to go on with it.")],
    data: Annotated[Path, typer.Option(help="Folder with the files of a data set that is given by name.")] = Path(),
    method: Annotated[
        str, typer.Option(help="icpg, icpg-local, ugs, random, random-edges, random-edges-local or magnitude.")
    ] = "icpg",
    model: Annotated[str, typer.Option(help="gcn, gin or gat.")] = "gcn",
    rounds: Annotated[int, typer.Option(min=1, help="Each cuts 5 % of the edges and 20 % of the weights left.")] = 20,
    seeds: Annotated[str, typer.Option(help="One run for each: 0,1,2.")] = "0",
    edge_rate: Annotated[float, typer.Option(help="Share of each graph's edges that a round cuts.")] = 0.05,
    weight_rate: Annotated[float, typer.Option(help="Share of the weights that a round cuts.")] = 0.2,
    epochs: Annotated[int, typer.Option(min=0, help="Of each training; 0: as published.")] = 0,
    hidden: Annotated[int, typer.Option(min=0, help="Hidden channels; 0: as published.")] = 0,
    layers: Annotated[int, typer.Option(min=0, help="Layers that pass messages; 0: as published.")] = 0,
    train_graphs: Annotated[int, typer.Option(min=2, help="Of mnist-superpixels.")] = 5000,
    test_graphs: Annotated[int, typer.Option(min=2, help="Of mnist-superpixels, and as many for validation.")] = 1000,
    device: Annotated[str, typer.Option(help="Measure every round there: a name of `hwloop device list`.")] = "",
    processes: Annotated[int, typer.Option(min=1, help="Fresh processes for each measured number.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Of torch, on the device.")] = 1,
    json_file: Annotated[str, typer.Option("--json", help="Write the result there; - is stdout.")] = "",
) -> None:
    """Prune a graph network and its graphs round by round; everything is chosen on the validation split."""
    # Imported here: the command line must answer at once.
    from dataclasses import replace

    from hwloop.cli.display import Display
    from hwloop.graphs import (
        Plan,
        Rates,
        RunFolder,
        SuperpixelConfig,
        chosen_round,
        curve,
        front_rounds,
        get_method,
        holds_to,
        initial_network,
        open_graphs,
        usual_network,
        usual_recipe,
    )
    from hwloop.graphs import prune as run
    from hwloop.graphs.costs import measure_rounds

    console = Console(stderr=json_file == "-")
    progress = Display(console)
    wanted = _seeds(seeds)
    superpixels = SuperpixelConfig(train=train_graphs, validation=test_graphs, test=test_graphs)
    graphs = open_graphs(dataset, data, out / "cache", progress, superpixels)
    chosen = get_method(method, graphs)
    network = usual_network(graphs, _kind(model), hidden or None, layers or None)
    recipe = usual_recipe(graphs)
    recipe = replace(recipe, epochs=epochs or recipe.epochs)
    plans = [Plan(network, recipe, Rates(edge_rate, weight_rate), rounds, seed) for seed in wanted]
    runs = []
    for plan in plans:
        with RunFolder(out / f"seed-{plan.seed}", plan.settings(graphs, chosen)) as folder:
            runs.append(run(graphs, chosen, plan, folder, progress))
    points = curve(runs)
    measured = None
    if device:
        with (
            RunFolder(out / f"seed-{plans[0].seed}", plans[0].settings(graphs, chosen)) as folder,
            _open_bench(out, device, processes, threads, progress) as (bench, runtime, _),
        ):
            measured = measure_rounds(graphs, initial_network(plans[0]), folder, runtime, bench)
    front = front_rounds(points, measured.rounds) if measured else ()
    result = {
        "dataset": graphs.name,
        "method": method,
        "network": network.content(),
        "recipe": recipe.content(),
        "seeds": wanted,
        "chosen_round": chosen_round(points),
        "within_one_sd_to_round": holds_to(points),
        "rounds": [_row(point, measured, point.round in front) for point in points],
        "notes": list(measured.notes(points[-1].edge_sparsity, points[-1].weight_sparsity)) if measured else [],
    }
    text = json.dumps(result, indent=1)
    write_atomic(out / "result.json", text + "\n")
    if json_file == "-":
        typer.echo(text)
    elif json_file:
        write_atomic(Path(json_file), text + "\n")
    _show(result, console)


@app.command("search")
def search(
    dataset: Annotated[
        str, typer.Argument(help="cora, citeseer, mnist-superpixels, or a file that torch-geometric wrote.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the search; run again to go on with it.")],
    data: Annotated[Path, typer.Option(help="Folder with the files of a data set that is given by name.")] = Path(),
    model: Annotated[str, typer.Option(help="gcn or gin.")] = "gcn",
    algorithm: Annotated[str, typer.Option(help="Any that `hwloop run` knows.")] = "nsga2",
    ranking: Annotated[
        str, typer.Option(help="Of the edges: random-edges-local, random-edges, icpg-local or icpg.")
    ] = "random-edges-local",
    objectives: Annotated[str, typer.Option(help="Separated by commas.")] = "error,latency_ms,peak_memory_mb",
    population: Annotated[int, typer.Option(min=2, help="Candidates per generation.")] = 16,
    generations: Annotated[int, typer.Option(min=1, help="With the first one.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of everything.")] = 0,
    epochs: Annotated[int, typer.Option(min=0, help="Of the base network; 0: as published.")] = 0,
    candidate_epochs: Annotated[int, typer.Option(min=1, help="That a candidate is trained further.")] = 30,
    hidden: Annotated[int, typer.Option(min=0, help="Hidden channels of the base network; 0: as published.")] = 0,
    layers: Annotated[int, typer.Option(min=0, help="Layers that pass messages; 0: as published.")] = 0,
    device: Annotated[str, typer.Option(help="A name of `hwloop device list`.")] = "local",
    processes: Annotated[int, typer.Option(min=1, help="Fresh processes for each measured number.")] = 2,
    threads: Annotated[int, typer.Option(min=1, help="Of torch, on the device.")] = 1,
    json_file: Annotated[str, typer.Option("--json", help="Write the result there; - is stdout.")] = "",
) -> None:
    """Search hidden width, edges and weights of a graph network; the front is measured on the device."""
    from dataclasses import replace

    from hwloop.cli.display import Display
    from hwloop.graphs import ClaimedFolder, Plan, open_graphs, usual_network, usual_recipe
    from hwloop.report.graphs import write_graph_report
    from hwloop.study.graph_search import SearchPlan, search_graphs, search_settings

    console = Console(stderr=json_file == "-")
    progress = Display(console)
    graphs = open_graphs(dataset, data, out / "cache", progress)
    recipe = usual_recipe(graphs)
    plan = Plan(
        usual_network(graphs, _kind(model), hidden or None, layers or None),
        replace(recipe, epochs=epochs or recipe.epochs),
        seed=seed,
    )
    wanted = SearchPlan(tuple(objectives.split(",")), algorithm, population, generations, candidate_epochs, ranking)
    with (
        ClaimedFolder(out, search_settings(graphs, plan, wanted)),
        _open_bench(out, device, processes, threads, progress) as (bench, runtime, cpu),
    ):
        result = search_graphs(graphs, plan, wanted, out, runtime, bench, cpu, progress)
    write_graph_report(result, f"{graphs.name}, {model}", out / "report.html")
    text = json.dumps(result, indent=1)
    if json_file == "-":
        typer.echo(text)
    elif json_file:
        write_atomic(Path(json_file), text + "\n")
    show_front(result, console)


def show_front(result: dict[str, Any], console: Console) -> None:
    """Print the measured front of a search over a graph network."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    names = ("hidden", "edges\ncut %", "weights\ncut %", "valid.\n%", "test\n%", "ms\ninterval", "grid ms", "peak MB")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row in result["front"]:
        usable = row["latency_ms"] is not None
        span = f"{row['latency_ms']:.4f}\n[dim]{row['low_ms']:.4f}–{row['high_ms']:.4f}[/]" if usable else row["status"]
        table.add_row(
            f"{row['hidden']}" + ("\n(base)" if row["candidate"] == result["base"] else ""),
            f"{row['edges_cut']:.1%}"[:-1],
            f"{row['weights_cut']:.1%}"[:-1],
            f"{row['validation']:.2%}"[:-1],
            f"{row['test']:.2%}"[:-1],
            span,
            f"{row['grid_latency_ms']:.4f}",
            f"{row['peak_bytes'] / 1e6:.1f}",
        )
    print_whole(table, console)
    console.print(
        f"{result['evaluated']} candidates evaluated on the validation split; hypervolume {result['hypervolume']:.4f}",
        highlight=False,
    )


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--seeds {text}: give whole numbers separated by commas, as 0,1,2") from None
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UserError(f"--seeds {text}: give different numbers from 0")
    return seeds


def _kind(text: str) -> Any:
    from hwloop.graphs import KINDS

    if text not in KINDS:
        raise UserError(f"--model {text}: it can be {', '.join(KINDS)}")
    return text


@contextmanager
def _open_bench(
    out: Path, device: str, processes: int, threads: int, progress: Progress
) -> Iterator[tuple[Bench, Runtime, str]]:
    """A device with the trial store of a run's folder, torch for it, and the name of its processor."""
    from hwloop.devices import Inventory
    from hwloop.measurement import Bench, CampaignPlan, TrialStore
    from hwloop.runtimes import get_runtime

    out.mkdir(parents=True, exist_ok=True)
    session = "graphs-" + hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]
    with TrialStore(out / f"trials-{device}.ndjson") as store:
        campaign = CampaignPlan(processes=processes, threads=threads)
        bench = Bench(Inventory.find().get(device), session, store, campaign, progress)
        identity = bench.identify(out / f"device-{device}.json")
        progress.say(f"measured on {identity.cpu}")
        yield bench, get_runtime("torch").for_device(identity.facts), identity.cpu


def _row(point: CurvePoint, measured: Measured | None, on_front: bool) -> dict[str, Any]:
    from dataclasses import asdict

    row = asdict(point)
    one = measured.rounds.get(point.round) if measured else None
    if one is not None:
        usable = one.usable
        row |= {
            "status": one.status,
            "latency_ms": one.latency_ms if usable else None,
            "low_ms": one.interval_ms.low if usable else None,
            "high_ms": one.interval_ms.high if usable else None,
            "peak_bytes": one.peak_bytes,
            "model_bytes": one.model_bytes,
            "on_front": on_front,
        }
    return row


def _show(result: dict[str, Any], console: Console) -> None:
    rows: Sequence[dict[str, Any]] = result["rounds"]
    measured = "status" in rows[0]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    columns = ["round", "edges cut %", "weights cut %", "validation %", "test %"]
    for name in [*columns, *(["ms", "interval", "peak MB", "front"] if measured else [])]:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = [str(row["round"]), f"{row['edge_sparsity']:.2%}"[:-1], f"{row['weight_sparsity']:.2%}"[:-1]]
        cells += [_with_deviation(row, name) for name in ("validation", "test")]
        if measured and row["latency_ms"] is not None:
            cells += [f"{row['latency_ms']:.4f}", f"{row['low_ms']:.4f}–{row['high_ms']:.4f}"]
            cells += [f"{row['peak_bytes'] / 1e6:.1f}", "*" if row["on_front"] else ""]
        elif measured:
            cells += ["–", row["status"], "–", ""]
        table.add_row(*cells)
    print_whole(table, console)
    lines = [f"chosen on the validation split: round {result['chosen_round']}"]
    held = result["within_one_sd_to_round"]
    if held is not None:
        lines.append(f"test accuracy stays within one standard deviation of the unpruned network to round {held}")
    for line in [*lines, *result["notes"]]:
        console.print(line, highlight=False, markup=False)


def _with_deviation(row: dict[str, Any], name: str) -> str:
    deviation = row[f"{name}_sd"]
    return f"{row[name]:.2%}"[:-1] + ("" if deviation is None else f" ± {deviation:.2%}"[:-1])

"""`hwloop predictor fit|evaluate|explain`, and `hwloop table build --target-error`: a pruning space, predicted."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from hwloop.cli.shape import shape_of
from hwloop.errors import DataError, UserError
from hwloop.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwloop.devices import Device
    from hwloop.measurement import CurvePoint
    from hwloop.predictors import Explanation, NetworkPredictor, PredictorReport
    from hwloop.progress import Progress
    from hwloop.runtimes import Runtime
    from hwloop.study.space import Moves
    from hwloop.study.space_campaign import Spending

app = typer.Typer(help="Fit, judge and explain latency predictors of pruning spaces.", no_args_is_help=True)

GRAIN = 8
"""Step of the widths unless another is asked for: what most blocked kernels divide."""

HELD_OUT_SEED = 1000


def register(parent: typer.Typer) -> None:
    """Add the commands of this group."""
    parent.add_typer(app, name="predictor")


@app.command("fit")
def fit(
    table: Annotated[Path, typer.Argument(help="A latency table of `hwloop table build --target-error`.")],
    networks: Annotated[Path | None, typer.Option(help="Measured networks; TABLE.networks.json by default.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The predictor; TABLE.predictor.json by default.")
    ] = None,
) -> None:
    """Fit a predictor on a table and measured networks, again or on others."""
    from hwloop.predictors import NetworkPredictor
    from hwloop.study.space_campaign import fit_networks, load_networks
    from hwloop.tables import LatencyTable

    measured, about = load_networks(networks or table.with_suffix(".networks.json"))
    moves = _moves(about)
    predictor = fit_networks(NetworkPredictor(moves.scalable, LatencyTable.load(table)), moves.space, measured)
    target = output or table.with_suffix(".predictor.json")
    predictor.save(target)
    Console().print(f"{_fitted(predictor)}: {target}", soft_wrap=True, markup=False, highlight=False)


@app.command("evaluate")
def evaluate(
    predictor: Annotated[Path, typer.Argument(help="A predictor.")],
    networks: Annotated[
        Path | None, typer.Option(help="Networks that it was not fitted on; those of --held-out by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
) -> None:
    """Print how far off a predictor is on networks that it has not seen."""
    from hwloop.predictors import NetworkPredictor
    from hwloop.study.space_campaign import evaluate_networks, load_networks

    measured, about = load_networks(networks or _beside(predictor, ".held_out.json"))
    moves = _moves(about)
    floor = about.get("noise_floor")
    known = float(floor) if isinstance(floor, (int, float)) else math.nan
    report: PredictorReport = evaluate_networks(
        NetworkPredictor.load(predictor, moves.scalable), moves.space, measured, known
    )
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=1, allow_nan=False))
    else:
        for line in report.lines():
            typer.echo(line)


@app.command("explain")
def explain(
    predictor: Annotated[Path, typer.Argument(help="A predictor.")],
    candidate: Annotated[
        str, typer.Argument(help='A candidate, "conv1=16 layer1.0.conv1=8 …"; the base network by default.')
    ] = "",
    networks: Annotated[
        Path | None, typer.Option(help="Measured networks that name the model; those beside the predictor by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
) -> None:
    """Print which layers and terms make up the prediction of one candidate, and where it is unsure."""
    from hwloop.predictors import NetworkPredictor
    from hwloop.predictors import explain as taken_apart
    from hwloop.study.space_campaign import load_networks

    _, about = load_networks(networks or _beside(predictor, ".networks.json"))
    moves = _moves(about)
    chosen = moves.space.parse(candidate) if candidate else moves.space.base
    found = taken_apart(NetworkPredictor.load(predictor, moves.scalable), chosen.widths, moves.space.remains(chosen))
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1, allow_nan=False))
    else:
        _show(found, Console())


def build_to_target(
    model: str,
    output: Path,
    device: Device,
    runtime: Runtime,
    spending: Spending,
    *,
    input_shape: str,
    threads: int,
    grain: int,
    held_out: int,
    progress: Progress,
) -> None:
    """Measure a pruning space until its predictor is good enough, or go on with it.

    Writes the table, and beside it the networks, the predictor, the curve of error against measurements (CSV), and the
    held-out networks where some are asked for.

    Raises:
        UserError: the model is a file: what may be pruned is found in torch modules.
        ModelError: nothing of it can be pruned.
    """
    from hwloop.measurement import Bench, CampaignPlan, TrialStore, noise_floor
    from hwloop.profiling import open_model
    from hwloop.profiling.model import TorchModel
    from hwloop.study.sampling import sample_candidates
    from hwloop.study.space import open_space
    from hwloop.study.space_campaign import TIMING, SpaceCampaign, save_networks

    source = open_model(model, (), input_shape=shape_of(input_shape), classes=None)
    if not isinstance(source, TorchModel):
        raise UserError(f"--target-error: {model} is a file; give a network of the zoo or package.module:factory")
    output.parent.mkdir(parents=True, exist_ok=True)
    session = "space-" + hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:16]
    plan = CampaignPlan(processes=1, threads=threads, timing=TIMING, anchor_every=40)
    with TrialStore(output.with_suffix(".trials.ndjson")) as store:
        bench = Bench(device, session, store, plan, progress)
        identity = bench.identify(output.with_suffix(".device.json"))
        fitting = runtime.for_device(identity.facts)
        moves = open_space(source.module, source.input_shape, fitting.fusion, grain=grain)
        campaign = SpaceCampaign(moves, source.input_shape, fitting, bench, identity)
        found = campaign.run(spending)
        about = {
            "model": model,
            "input": list(source.input_shape),
            "classes": source.classes,
            "runtime": fitting.label,
            "grain": grain,
        }
        found.table.save(output)
        save_networks(output.with_suffix(".networks.json"), found.networks, about)
        found.predictor.save(output.with_suffix(".predictor.json"))
        write_atomic(output.with_suffix(".curve.csv"), _curve(found.curve))
        last = found.curve[-1]
        progress.say(
            f"{_fitted(found.predictor)} from {last.measurements} measurements in {last.seconds:.0f} s: nine of ten"
            f" networks are expected within {last.error:.1%}"
        )
        if held_out:
            known = {one.text for one in found.networks}
            drawn = [
                one
                for one in sample_candidates(moves.space, held_out + len(known) + 2, HELD_OUT_SEED)[2:]
                if moves.space.text(one) not in known
            ][:held_out]
            floor = noise_floor(list(campaign.measured_twice(drawn[:10]).values()))
            truth = campaign.measure_networks(drawn, "held-out networks")
            known_floor = None if math.isnan(floor) else floor
            save_networks(output.with_suffix(".held_out.json"), truth, about | {"noise_floor": known_floor})


def share_of(text: str) -> float:
    """A share from "5%" or "0.05".

    Raises:
        UserError: it is none, or not between 0 and 1.
    """
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise UserError(f"--target-error {text}: give a share such as 5% or 0.05")
    return share


def _moves(about: dict[str, Any]) -> Moves:
    """The space that measured networks are of."""
    from hwloop.profiling.model import TorchModel
    from hwloop.runtimes import get_runtime
    from hwloop.study.space import open_space

    try:
        channels, height, width = about["input"]
        source = TorchModel(str(about["model"]), (channels, height, width), int(about["classes"]), Path.cwd())
        runtime, grain = str(about["runtime"]), int(about["grain"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the file of measured networks does not name its model: {error}") from error
    return open_space(source.module, source.input_shape, get_runtime(runtime).fusion, grain=grain)


def _beside(predictor: Path, suffix: str) -> Path:
    name = predictor.name.removesuffix(".json").removesuffix(".predictor")
    return predictor.with_name(name + suffix)


def _fitted(predictor: NetworkPredictor) -> str:
    correction = predictor.correction
    return f"predictor (correction {correction.form}, {correction.networks} networks)"


def _curve(curve: Sequence[CurvePoint]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["measurements", "seconds", "expected_error"])
    writer.writerows([point.measurements, f"{point.seconds:.1f}", f"{point.error:.5f}"] for point in curve)
    return text.getvalue()


def _show(found: Explanation, console: Console) -> None:
    peak = "not measured" if math.isnan(found.peak_bytes) else f"{found.peak_bytes / 1e6:.1f} MB"
    energy = "" if found.energy_mj is None else f", energy {found.energy_mj:.3f} mJ a run"
    console.print(
        f"predicted {found.latency_ms:.4f} ms ({found.low_ms:.4f} to {found.high_ms:.4f}), peak memory {peak}{energy}",
        highlight=False,
    )
    table = Table("layer", "key", "ms", "± ms", "from")
    for layer in found.layers:
        table.add_row(layer.name, layer.key, f"{layer.latency_ms:.4f}", f"{layer.spread_ms:.4f}", layer.kind)
    table.add_section()
    table.add_row("sum of layers", "", f"{found.sum_of_layers_ms:.4f}", f"{found.layer_spread_ms:.4f}", "")
    for name, added in found.terms_ms.items():
        table.add_row(f"correction: {name}", "", f"{added:+.4f}", "", found.form)
    table.add_row("network", "", f"{found.latency_ms:.4f}", f"{found.correction_spread_ms:.4f}", "")
    console.print(table)
    worst = sorted(found.layers, key=lambda layer: -layer.spread_ms)[:3]
    console.print("least sure: " + ", ".join(f"{layer.name} (± {layer.spread_ms:.4f} ms)" for layer in worst))

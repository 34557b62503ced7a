"""`hwloop prune`: a smaller network, by its widths or by a speed-up that is measured on a device."""

from __future__ import annotations

import hashlib
import json
import math
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from hwloop.cli import imagedata, recipe
from hwloop.cli.options import grouped
from hwloop.cli.train import accuracies, described_run, digest, fit_and_judge, require_folder
from hwloop.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from hwloop.progress import Progress
    from hwloop.pruning import PruningSpace, SurgeryPlan
    from hwloop.study.speedup import SpeedUp, Stopwatch

EVIDENCE_IMAGES = 512


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("prune")(prune)


@grouped
def prune(
    *,
    model: Annotated[str, typer.Argument(help="A network of the zoo, or package.module:factory.")],
    weights: Annotated[Path, typer.Option(help="Its weights.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The pruned network; run again to go on with it.")
    ] = None,
    widths: Annotated[
        str, typer.Option(help='A candidate: "conv1=16 layer1.0.conv1=8 … -layer1.1"; - lists the groups and blocks.')
    ] = "",
    speed_up: Annotated[str, typer.Option(help="As in 2x: widths and blocks that are so much faster, measured.")] = "",
    device: Annotated[str, typer.Option(help="A name of `hwloop device list`; local with --speed-up.")] = "",
    runtime: Annotated[str, typer.Option(help="With a variant behind a colon.")] = "onnxruntime",
    runtime_threads: Annotated[int, typer.Option(min=1, help="Of the runtime.")] = 1,
    processes: Annotated[
        int, typer.Option(min=1, help="Fresh processes per measurement on the way; 4 for the last.")
    ] = 2,
    state: Annotated[
        Path | None, typer.Option(help="Folder with the journal of all trials; OUT.state by default.")
    ] = None,
    criterion: Annotated[str, typer.Option(help="Which channels go first: l1, clad, …")] = "l1",
    grain: Annotated[int, typer.Option(min=1, help="Step of the widths that --speed-up tries.")] = 8,
    widths_only: Annotated[bool, typer.Option("--widths-only", help="--speed-up leaves all blocks.")] = False,
    source: imagedata.Images,
    epochs: Annotated[int, typer.Option(min=0, help="Of fine-tuning; the base is the teacher.")] = 0,
    learning_rate: recipe.LearningRate = 0.03,
    fitting: recipe.Recipe,
    as_json: recipe.AsJson = False,
) -> None:
    """Cut channels and blocks out of a network, measure batch normalisations anew, and fine-tune it."""
    # Imported here: the command line must answer at once, and these bring torch along.
    import torch

    from hwloop.cli.display import Display
    from hwloop.pruning import Evidence, Recalibration, get_criterion, plan_surgery, pruning_space
    from hwloop.study.network import TrainedNetwork, open_network, read_description, save_network

    wanted = _ratio(speed_up) if speed_up else 0.0
    if bool(speed_up) == bool(widths):
        raise UserError("give either --widths or --speed-up")
    config = fitting.config(max(1, epochs), learning_rate, source.seed)
    chosen_criterion = get_criterion(criterion)
    if widths == "-":
        out = None
    elif out is None:
        raise UserError("--out is missing: the file of the pruned network (--widths - lists what can be pruned)")
    else:
        require_folder(out)
    console = Console(stderr=as_json)
    progress = Display(console)
    described = read_description(weights)
    if described is not None and described.pruned is not None:
        raise UserError(f"--weights {weights}: is pruned already ({described.pruned.text}); prune its base")
    images = source.load(described.normalisation if described else None, progress)
    base = open_network(model, weights, images, arguments=source.arguments, folder=Path.cwd())
    space = pruning_space(base.module, base.description.input_shape, grain=grain)
    if out is None:
        _list(space, console)
        return
    candidate = space.parse(widths) if widths else None  # a mistake is told before a criterion takes its time
    if candidate is None and widths_only:
        space = space.without_blocks()
    evidence = Evidence.drawn(images.train, EVIDENCE_IMAGES, seed=source.seed)
    plan = plan_surgery(base.module, space, chosen_criterion, evidence)
    speed: SpeedUp | None = None
    if candidate is None or device:
        from hwloop.study.speedup import fast_enough, rungs_of

        folder = state or out.with_name(out.name + ".state")
        with _stopwatch(
            plan,
            space,
            base.description.input_shape,
            device or "local",
            runtime,
            runtime_threads,
            processes,
            folder,
            progress,
        ) as stopwatch:
            if candidate is None:
                candidate, speed = fast_enough(stopwatch, rungs_of(plan, space, images, source.seed), wanted, progress)
            else:
                speed = stopwatch.speed_up(candidate)
    text = space.text(candidate)
    progress.say(f"candidate: {text}")
    module = plan.apply(candidate)
    Recalibration(images.train, seed=source.seed, fast=False).prepare(module)
    module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # missing in torch's stubs
    pruned = TrainedNetwork(module.eval(), base.description.pruned_by(plan, space, text, criterion))
    found: dict[str, Any] = {
        "base": _facts(base.module, base.description.input_shape) | accuracies(base.module, images)
    }
    found["pruned"] = _facts(module, base.description.input_shape) | accuracies(module, images)
    if epochs:
        about = {"network": pruned.description.text, "data": images.fingerprint, "start": digest(weights)}
        taught = base.module if config.taught else None
        report, after = fit_and_judge(module, images, config, out, about, taught, fitting.save_every, progress)
        found["fine_tuned"] = after | described_run(report)
    else:
        save_network(out, pruned)
    _tell(found, text, speed, out, console, as_json)


def _ratio(text: str) -> float:
    """A speed-up from "2x" or "2"."""
    try:
        ratio = float(text.removesuffix("x"))
    except ValueError:
        ratio = math.nan
    if not 1 < ratio < math.inf:
        raise UserError(f"--speed-up {text}: give a number above 1, as in 2x")
    return ratio


def _list(space: PruningSpace, console: Console) -> None:
    lines = [f"{group.name}={group.width}" for group in space.groups]
    console.print("\n".join([*lines, *(f"-{block.name}" for block in space.blocks)]), highlight=False, markup=False)


@contextmanager
def _stopwatch(
    plan: SurgeryPlan,
    space: PruningSpace,
    input_shape: tuple[int, int, int],
    device: str,
    runtime: str,
    threads: int,
    processes: int,
    folder: Path,
    progress: Progress,
) -> Iterator[Stopwatch]:
    """Give the stopwatch of a device, with its journal open."""
    from hwloop.devices import Inventory
    from hwloop.measurement import Bench, CampaignPlan, TrialStore
    from hwloop.runtimes import get_runtime
    from hwloop.study.space_campaign import TIMING
    from hwloop.study.speedup import Stopwatch

    session = "prune-" + hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]

    chosen, place = get_runtime(runtime), Inventory.find().get(device)
    folder.mkdir(parents=True, exist_ok=True)
    with TrialStore(folder / "trials.ndjson") as store:
        bench = Bench(
            place, session, store, CampaignPlan(processes=processes, threads=threads, timing=TIMING), progress
        )
        identity = bench.identify(folder / f"device-{device}.json")
        yield Stopwatch(plan, space, input_shape, chosen.for_device(identity.facts), bench)


def _facts(module: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, Any]:
    from hwloop.extraction import ONNXRUNTIME_X86, network_from_torch

    network = network_from_torch(module, input_shape, rules=ONNXRUNTIME_X86)
    return {"parameters": sum(one.numel() for one in module.parameters()), "macs": network.macs}


def _tell(found: dict[str, Any], text: str, speed: SpeedUp | None, out: Path, console: Console, as_json: bool) -> None:
    from hwloop.cli.top1 import told

    if as_json:
        measured = None if speed is None else asdict(speed)
        typer.echo(json.dumps({"weights": str(out), "candidate": text, "speed_up": measured} | found, indent=1))
        return
    for name, title in (("base", "base"), ("pruned", "pruned"), ("fine_tuned", "fine-tuned")):
        if name in found:
            size = (
                f", {found[name]['parameters']:,} parameters, {found[name]['macs']:,} MACs"
                if name != "fine_tuned"
                else ""
            )
            console.print(f"{title}: top-1 on the test images {told(found[name]['test'])}{size}", highlight=False)
    if speed is not None:
        console.print(
            f"measured: {speed.value:.2f}x as fast ({speed.interval.low:.2f}–{speed.interval.high:.2f}), "
            f"{speed.base_ms:.4f} → {speed.pruned_ms:.4f} ms, {speed.verdict}",
            highlight=False,
        )
    console.print(f"weights: {out}", highlight=False, markup=False, soft_wrap=True)

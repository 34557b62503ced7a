"""Latency over the output channels of one layer, in every runtime: is it a staircase, and how wide are its steps?

python -m tests.benchmarks staircase [--from 8] [--to 128] [--step 1] [--ops conv,pointwise,linear]
                                     [--runtimes A,B] [--device NAME] [--state DIR] [--csv FILE] [--html FILE]
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from rich.console import Console

from hwloop.cli.display import Display
from hwloop.devices import Inventory
from hwloop.errors import UserError
from hwloop.layers import Layer
from hwloop.measurement import Bench, CampaignPlan, Measurement, Subject, TimingProtocol, TrialStore, noise_floor
from hwloop.runtimes import get_runtime
from hwloop.tables.grain import FEWEST_WIDTHS, learn_grain

RUNTIMES = ("onnxruntime", "litert", "tvm", "torch")
TIMING = TimingProtocol(warmup_s=0.03, min_s=0.05, max_s=0.3, target_relative_interval=0.02)


def _conv(width: int) -> Layer:
    return Layer(
        "conv", ((1, 32, 16, 16),), (1, width, 16, 16), (3, 3), (1, 1), (1, 1, 1, 1), bias=True, activation="relu"
    )


def _pointwise(width: int) -> Layer:
    return Layer("conv", ((1, 64, 16, 16),), (1, width, 16, 16), bias=True, activation="relu")


def _linear(width: int) -> Layer:
    return Layer("linear", ((1, 512),), (1, width), bias=True)


OPS: Mapping[str, Callable[[int], Layer]] = {"conv": _conv, "pointwise": _pointwise, "linear": _linear}


def main(arguments: Sequence[str] = ()) -> None:
    """Measure, print the grain of each runtime and operation, write the data and a plot."""
    wanted = _parse(arguments)
    console = Console(width=140)
    progress = Display(console)
    folder = Path(wanted.state)
    folder.mkdir(parents=True, exist_ok=True)
    widths = range(wanted.low, wanted.high + 1, wanted.step)
    if len(widths) < FEWEST_WIDTHS:
        raise UserError(f"{len(widths)} widths: a step needs at least {FEWEST_WIDTHS}")
    ops, runtimes = wanted.ops.split(","), wanted.runtimes.split(",")
    with TrialStore(folder / "trials.ndjson") as store:
        session = "stairs-" + hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        plan = CampaignPlan(processes=wanted.processes, threads=wanted.threads, timing=TIMING)
        bench = Bench(Inventory.find().get(wanted.device), session, store, plan, progress)
        identity = bench.identify(folder / "device.json")
        curves = {}
        for op in ops:
            for name in runtimes:
                try:
                    curves[op, name] = _sweep(op, name, widths, bench, identity.facts)
                except UserError as error:
                    console.print(f"{op} in {name}: {error}", markup=False)
    _write(curves, Path(wanted.csv))
    _plot(curves, Path(wanted.html), f"{bench.device.name}: {identity.cpu}, threads {wanted.threads}")
    console.print(
        f"{bench.device.name} ({identity.cpu}); widths {wanted.low} to {wanted.high} in steps of {wanted.step}"
    )
    for (op, name), curve in curves.items():
        console.print(_grain(op, name, curve), highlight=False, markup=False)
    console.print(f"data: {wanted.csv}; plot: {wanted.html}", markup=False)


Curve = dict[int, Measurement]


def _sweep(op: str, name: str, widths: Sequence[int], bench: Bench, facts: Mapping[str, object]) -> Curve:
    runtime = get_runtime(name).for_device(facts)
    subjects = [Subject(str(width), runtime.layer(OPS[op](width))) for width in widths]
    return {int(key): one for key, one in bench.measure(subjects, f"{op} in {name}").items()}


def _grain(op: str, name: str, curve: Curve) -> str:
    usable = {width: one.latency_ms for width, one in curve.items() if one.usable}
    where = f"{op:10} {name:12}"
    if len(usable) < FEWEST_WIDTHS:
        first = next(iter(curve.values()))
        return f"{where} {len(usable)} of {len(curve)} widths have a number: {first.status}: {'; '.join(first.reasons)}"
    floor = noise_floor(list(curve.values()))
    known = {} if floor != floor else {"noise": floor}
    found = learn_grain(list(usable), list(usable.values()), **known)
    degraded = sum(one.status == "degraded" for one in curve.values())
    return (
        f"{where} grain {found.step:3d} (evidence {found.evidence:.0f}), {min(usable.values()):.4f} to "
        f"{max(usable.values()):.4f} ms, noise {'not known' if not known else f'{100 * floor:.1f} %'}, "
        f"{degraded} of {len(curve)} degraded"
    )


def _write(curves: Mapping[tuple[str, str], Curve], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["op", "runtime", "channels", "latency_ms", "low_ms", "high_ms", "status"])
        for (op, name), curve in curves.items():
            for width, one in curve.items():
                ends = one.interval_ms
                numbers = (one.latency_ms, ends.low, ends.high) if one.usable else ("", "", "")
                writer.writerow([op, name, width, *numbers, one.status])


def _plot(curves: Mapping[tuple[str, str], Curve], path: Path, title: str) -> None:
    if not curves:
        return
    ops = list(dict.fromkeys(op for op, _ in curves))
    names = list(dict.fromkeys(name for _, name in curves))
    titles = [f"{op}, {name}" for op in ops for name in names]
    figure = make_subplots(rows=len(ops), cols=len(names), subplot_titles=titles)
    for (op, name), curve in curves.items():
        usable = {width: one for width, one in curve.items() if one.usable}
        latency = [one.latency_ms for one in usable.values()]
        figure.add_trace(
            go.Scatter(
                x=list(usable),
                y=latency,
                error_y={
                    "type": "data",
                    "array": [one.interval_ms.high - one.latency_ms for one in usable.values()],
                    "arrayminus": [one.latency_ms - one.interval_ms.low for one in usable.values()],
                },
                line={"shape": "hvh"},
                mode="lines+markers",
                showlegend=False,
            ),
            row=ops.index(op) + 1,
            col=names.index(name) + 1,
        )
    figure.update_xaxes(title="output channels", dtick=16)
    figure.update_yaxes(title="ms", rangemode="tozero")
    figure.update_layout(title=title, height=400 * len(ops), width=480 * len(names))
    figure.write_html(path, include_plotlyjs=True)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks staircase")
    parser.add_argument("--from", dest="low", type=int, default=8)
    parser.add_argument("--to", dest="high", type=int, default=128)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--ops", default="conv")
    parser.add_argument("--runtimes", default=",".join(RUNTIMES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--device", default="local")
    parser.add_argument("--state", default=".hwloop/staircase")
    parser.add_argument("--csv", default="staircase.csv")
    parser.add_argument("--html", default="staircase.html")
    return parser.parse_args(list(arguments))

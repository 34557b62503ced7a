"""Pruning spaces on this machine: how far off is each predictor on networks that it has not seen?

python -m tests.benchmarks spaces --folder DIR [--spaces resnet20,…] [--runtimes onnxruntime,litert] [--held-out 100]
                                  [--layers 400] [--networks 30] [--minutes 10] [--grain 8] [--seeds 5] [--json FILE]
                                  [--truth-processes 1]

Measures what is not in DIR yet, so it can be stopped and run again: layers and networks of the campaign (adaptive
sampling within the limits), then the held-out networks, which are the truth and count to nobody's measurements; all
have random widths and lack random residual blocks. Then prints, for each space and runtime and over the seeds of the
split, the errors of hwloop's predictor and of its rivals, each with the number of measurements that it used, beside the
noise floor. The last table leaves each network family out: its layers are measured, but its correction was learned on
the networks of the other spaces.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from hwloop.cli.display import Display
from hwloop.devices import Inventory
from hwloop.measurement import USABLE, Bench, CampaignPlan, TrialStore, curve_of, noise_floor
from hwloop.models import build_model, model_defaults, settle
from hwloop.predictors import NetworkPredictor, NetworkTerms, evaluate, fit_correction
from hwloop.predictors.layer_features import family
from hwloop.predictors.report import Errors
from hwloop.pruning import PruningSpace
from hwloop.runtimes import get_runtime
from hwloop.study.sampling import sample_candidates
from hwloop.study.space import open_space
from hwloop.study.space_campaign import TIMING, MeasuredNetwork, SpaceCampaign, SpaceTable, Spending
from tests.benchmarks.rivals import FlopsLine, LayerForest, NetAdaptGrid

SPACES = ("resnet20", "resnet56", "vgg16_bn", "mobilenet_v2")
RUNTIMES = ("onnxruntime", "litert")
HELD_OUT_SEED = 1000
NOISE_NETWORKS = 12
FAMILIES = ("conv", "pointwise", "depthwise", "linear", "matmul", "other")

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """One space in one runtime, measured.

    Attributes:
        name: of the space; `runtime` of the runtime.
        campaign: with the space, the table and the networks.
        found: by the campaign.
        truth: the held-out networks.
        floor: noise of a network's latency.
        seconds: the campaign took.
    """

    name: str
    runtime: str
    campaign: SpaceCampaign
    found: SpaceTable
    truth: tuple[MeasuredNetwork, ...]
    floor: float
    seconds: float


def main(arguments: Sequence[str] = ()) -> None:
    """Measure, then print all figures."""
    given = _parse(arguments)
    console = Console(width=150)
    measured = [
        found
        for name in given.spaces.split(",")
        for runtime in given.runtimes.split(",")
        if (found := measure_space(name, runtime, given, console)) is not None
    ]
    figures: list[dict[str, Any]] = []
    for one in measured:
        figures += _report(one, given.seeds, console)
    for runtime in dict.fromkeys(one.runtime for one in measured):
        figures += _families([one for one in measured if one.runtime == runtime], console)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1))


def measure_space(name: str, runtime_name: str, given: argparse.Namespace, console: Console) -> Measured | None:
    """Measure one space, or read what was measured of it."""
    folder = given.folder / f"{name}-{runtime_name}"
    folder.mkdir(parents=True, exist_ok=True)
    shape = model_defaults(name).input_shape
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the same weights in every run, or nothing would be found again
        arguments = {"shortcut": "projection"} if name.startswith("resnet") and shape[-1] == 32 else {}
        module = build_model(name, num_classes=10, in_channels=3, image_size=shape[-1], arguments=arguments)
        settle(module, shape)
    plan = CampaignPlan(processes=1, threads=1, timing=TIMING, attempts=given.attempts, anchor_every=40)
    device = Inventory.find().get("local")
    session = "spaces-" + hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    with TrialStore(folder / "trials.ndjson") as store, TrialStore(folder / "held_out.ndjson") as others:
        bench = Bench(device, session, store, plan, Display(console))
        identity = bench.identify(folder / "device.json")
        runtime = get_runtime(runtime_name).for_device(identity.facts)
        moves = open_space(module.eval(), shape, runtime.fusion, grain=given.grain)
        campaign = SpaceCampaign(moves, shape, runtime, bench, identity)
        began = time.monotonic()
        found = campaign.run(Spending(given.layers, given.networks, 60 * given.minutes))
        console.print(
            f"{name} in {runtime_name}: {len(moves.space.groups)} widths, {len(moves.space.blocks)} blocks,"
            f" {len(found.table)} layers and"
            f" {len(found.networks)} networks, {found.curve[-1].seconds:.0f} s of measuring"
            f" ({time.monotonic() - began:.0f} s in this run, decisions included)"
        )
        for point in curve_of(store):
            console.print(
                f"  {point.measurements:4d} measurements, {point.seconds:4.0f} s: expected error {point.error:.1%}"
            )
        judge = replace(campaign, bench=replace(bench, store=others, session_id=f"{session}-truth"))
        seen = {one.text for one in found.networks}
        candidates = [
            one
            for one in sample_candidates(moves.space, given.held_out + len(seen) + 2, HELD_OUT_SEED)[2:]
            if moves.space.text(one) not in seen
        ][: given.held_out]
        truth = judge.measure_networks(candidates, "held-out networks", given.truth_processes)
        again = judge.measured_twice(candidates[:NOISE_NETWORKS])
    usable = tuple(one for one in truth if one.status in USABLE)
    if len(usable) < 10:
        console.print(f"{name} in {runtime_name}: only {len(usable)} held-out networks could be measured")
        return None
    floor = noise_floor(list(again.values()))
    return Measured(name, runtime_name, campaign, found, usable, floor, found.curve[-1].seconds)


def _report(one: Measured, seeds: int, console: Console) -> list[dict[str, Any]]:
    space, scalable = one.campaign.moves.space, one.campaign.moves.scalable
    drawn = [n for n in one.found.networks if n.drawn and n.status in USABLE]
    chosen = [n for n in one.found.networks if not n.drawn and n.status in USABLE]
    everyone = [*drawn, *one.truth]
    degraded = sum(n.status == "degraded" for n in everyone) + sum(r.status == "degraded" for r in one.found.table.rows)
    collected: dict[str, list[Errors]] = {}
    reports, fit_seconds = [], []
    layers = sum(row.usable for row in one.found.table.rows)
    for seed in range(seeds):
        # The first split is the campaign's own; the others exchange which of the randomly drawn networks teach.
        order = np.arange(len(everyone)) if seed == 0 else np.random.default_rng(seed).permutation(len(everyone))
        fitted = [*(everyone[i] for i in order[: len(drawn)]), *chosen]
        held = [everyone[i] for i in order[len(drawn) :]]
        began = time.perf_counter()
        predictor = one.campaign.fitted(one.found.table, fitted)
        fit_seconds.append(time.perf_counter() - began)
        asked, truth = arrays(space, held), latencies(held)
        peaks = [n.peak_bytes for n in held]
        report = evaluate(predictor, asked[0], truth, peaks, blocks=asked[1], noise_floor=one.floor)
        reports.append(report)
        macs, line = (scalable.macs(*arrays(space, networks)).astype(float) for networks in (held, fitted))
        answers = {
            f"hwloop ({layers} layers + {len(fitted)} networks)": report.latency,
            f"bare sum of hwloop's layers ({layers} layers)": report.sum_of_layers,
            f"NetAdapt grid ({layers} layers)": Errors.of(
                NetAdaptGrid(scalable, one.found.table).predict(*asked), truth
            ),
            f"FLOPs line ({len(fitted)} networks)": Errors.of(FlopsLine(line, latencies(fitted)).predict(macs), truth),
            f"forest of layers ({layers} layers)": Errors.of(
                LayerForest(scalable, one.found.table, seed).predict(*asked), truth
            ),
        }
        for who, errors in answers.items():
            collected.setdefault(who, []).append(errors)
    floor = "not known" if math.isnan(one.floor) else f"{one.floor:.1%}"
    console.print(
        f"\n{one.name} in {one.runtime}: {len(one.truth)} held-out networks, {one.seconds:.0f} s of measuring, noise"
        f" floor {floor}, {degraded} measurements degraded, correction {predictor.correction.form}, blocks of"
        f" {predictor.layers.grain}, fitted in {max(fit_seconds):.1f} s; mean and (lowest-highest) of {seeds} splits"
    )
    for who, found in collected.items():
        console.print(f"  {who:48} {_spread(found)}", markup=False)
    covered, width = [r.covered for r in reports], [r.interval_width for r in reports]
    console.print(f"  intervals: nominal 90%, covered {_range(covered)}, median width {np.mean(width):.1%}")
    memory = [r.memory.within_5 for r in reports if r.memory is not None]
    console.print(f"  peak memory within 5 %: {_range(memory) if memory else 'not measured'}")
    if predictor.roofline:
        console.print(f"  by the roofline: {', '.join(predictor.roofline)}")
    return [
        {"space": one.name, "runtime": one.runtime, "split": "random", "who": who, "errors": [vars(e) for e in found]}
        for who, found in collected.items()
    ] + [{"space": one.name, "runtime": one.runtime, "covered": covered, "width": width, "memory": memory}]


def _families(measured: Sequence[Measured], console: Console) -> list[dict[str, Any]]:
    """Leave one network family out: no network of it is measured, only its layers."""
    if len(measured) < 2:
        return []
    console.print(f"\n{measured[0].runtime}, leave one family out: own layers, the correction from the other spaces")
    figures = []
    terms = {one.name: _by_family(one, one.found.networks) for one in measured}
    for one in measured:
        others = [other for other in measured if _family_name(other.name) != _family_name(one.name)]
        if not others:
            continue
        taught = [terms[other.name] for other in others]
        joined = NetworkTerms(
            np.concatenate([t.sums_ms for t, _ in taught]),
            np.concatenate([t.parts for t, _ in taught]),
            np.concatenate([t.geometries_ms for t, _ in taught]),
        )
        correction = fit_correction(joined, np.concatenate([latency for _, latency in taught]))
        held, truth = _by_family(one, one.truth)
        corrected = correction.apply(held)
        errors = Errors.of(corrected.latency_ms, truth)
        bare = Errors.of(held.sums_ms, truth)
        console.print(f"  {one.name:14} {errors}; bare sum: {bare.median:.1%}; form {correction.form}", markup=False)
        figures.append({"space": one.name, "runtime": one.runtime, "split": "family", "errors": [vars(errors)]})
    return figures


def _family_name(space: str) -> str:
    return space.rstrip("0123456789").partition("_")[0].rstrip("0123456789")


def _by_family(one: Measured, networks: Sequence[MeasuredNetwork]) -> tuple[NetworkTerms, FloatArray]:
    """Terms whose layers are added up by kind, which mean the same in every space."""
    usable = [n for n in networks if n.status in USABLE]
    predictor = NetworkPredictor(one.campaign.moves.scalable, one.found.table)
    asked = arrays(one.campaign.moves.space, usable)
    sums = predictor.sums(*asked).terms
    latency, _, _ = predictor.layer_values(*asked)
    kinds = np.array([FAMILIES.index(family(layer)) for layer in one.campaign.moves.scalable.layers])
    grouped = np.stack([latency[:, kinds == kind].sum(axis=1) for kind in range(len(FAMILIES))], axis=1)
    return NetworkTerms(sums.sums_ms, sums.parts, grouped), latencies(usable)


def arrays(space: PruningSpace, networks: Sequence[MeasuredNetwork]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The (n, G) widths and the (n, B) flags of the blocks that remain."""
    return space.arrays([space.parse(one.text) for one in networks])


def latencies(networks: Sequence[MeasuredNetwork]) -> FloatArray:
    """(n,) measured, in ms."""
    return np.array([one.latency_ms for one in networks])


def _spread(found: Sequence[Errors]) -> str:
    return (
        f"within 5 %: {_range([e.within_5 for e in found])}, 10 %: {_range([e.within_10 for e in found])},"
        f" median {np.mean([e.median for e in found]):.1%}, p90 {np.mean([e.p90 for e in found]):.1%}"
    )


def _range(values: Sequence[float]) -> str:
    return f"{np.mean(values):.1%} ({min(values):.0%}-{max(values):.0%})"


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks spaces")
    parser.add_argument("--folder", type=Path, default=Path(".hwloop/spaces"), help="what was measured is kept there")
    parser.add_argument("--spaces", default=",".join(SPACES))
    parser.add_argument("--runtimes", default=",".join(RUNTIMES))
    parser.add_argument("--held-out", type=int, default=100)
    parser.add_argument("--layers", type=int, default=400)
    parser.add_argument("--networks", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--grain", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--attempts", type=int, default=2, help="of a trial under bad conditions")
    parser.add_argument("--truth-processes", type=int, default=1, help="in which a held-out network is measured")
    parser.add_argument("--json", type=Path)
    return parser.parse_args(list(arguments))

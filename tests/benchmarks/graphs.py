"""Pruned graph networks: accuracy against sparsity over seeds, and what sparsity costs on a device.

    python -m tests.benchmarks graphs [--datasets cora,citeseer] [--methods A,B] [--rounds N] [--seeds 0,1]
                                      [--model gcn] [--epochs N] [--hidden N] [--data DIR] [--state DIR]
    python -m tests.benchmarks graphs-superpixels [--train N] [--test N] [the same]
    python -m tests.benchmarks graphs-cost [--device NAME] [--processes N] [--datasets cora] [--model gcn] [--hidden N]
                                           [--data DIR] [--state DIR]

The claims of the README take `--seeds 0,1,2,3,4,5,6,7,8,9` and three seeds of superpixels. Every finished round is kept
in the state folder: the same command goes on, and with more seeds or rounds it only runs what is missing.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from hwloop.cli.display import Display
from hwloop.devices import Inventory
from hwloop.errors import UserError
from hwloop.graphs import (
    METHODS,
    Deployed,
    GraphSet,
    NetworkConfig,
    Plan,
    Recipe,
    Round,
    RunFolder,
    SuperpixelConfig,
    build_network,
    curve,
    deployed_graph,
    get_method,
    holds_to,
    measure_deployed,
    open_graphs,
    prune,
    slim,
    usual_network,
    usual_recipe,
)
from hwloop.graphs.masks import cut_edges, cut_weights, whole
from hwloop.measurement import Bench, CampaignPlan, Measurement, TrialStore, judge, noise_floor
from hwloop.runtimes import get_runtime

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SUPERPIXEL_EPOCHS = 10
"""Of the hundred that are published: an epoch of 5,000 graphs takes four seconds of a CPU, twice that with a masker."""
PAPER_ROUNDS = (3, 11)
PAIRS = (
    *itertools.product(("icpg", "icpg-local"), ("random-edges", "random", "magnitude", "ugs")),
    ("icpg-local", "icpg"),
    ("icpg-local", "random-edges-local"),
)
"""Methods that are compared seed by seed."""

Runs = dict[str, list[Sequence[Round]]]
Kept = dict[tuple[str, int], list[Tensor]]
"""Method and round to the edges that remain, for each seed."""


def main(options: Sequence[str] = ()) -> None:
    """Citation networks."""
    chosen = _parser("graphs", epochs=0, rounds=11)
    chosen.add_argument("--datasets", default="cora,citeseer")
    asked = chosen.parse_args(options)
    display = Display(Console())
    names = asked.datasets.split(",")
    _compare([open_graphs(name, asked.data / "planetoid", asked.state, display) for name in names], asked)


def superpixels(options: Sequence[str] = ()) -> None:
    """Graphs that are not seen in training."""
    chosen = _parser("graphs-superpixels", epochs=SUPERPIXEL_EPOCHS, rounds=3)
    chosen.add_argument("--train", type=int, default=5000)
    chosen.add_argument("--test", type=int, default=1000)
    asked = chosen.parse_args(options)
    config = SuperpixelConfig(train=asked.train, validation=asked.test, test=asked.test)
    data = open_graphs("mnist-superpixels", asked.data / "mnist", asked.state, Display(Console()), config)
    asked.state = asked.state / f"superpixels-{asked.train}-{asked.test}"
    _compare([data], asked)


def _parser(name: str, *, epochs: int, rounds: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(name)
    parser.add_argument("--methods", default="all", help=f"of {', '.join(METHODS)}")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--model", default="gcn")
    parser.add_argument("--epochs", type=int, default=epochs, help="0: as published")
    parser.add_argument("--hidden", type=int, default=0, help="0: as published")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--state", type=Path, default=Path(".hwloop") / "benchmark-graphs")
    return parser


def _compare(sets: Sequence[GraphSet], asked: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    seeds = [int(one) for one in asked.seeds.split(",")]
    asked.methods = list(METHODS) if asked.methods == "all" else asked.methods.split(",")
    runs: list[Runs] = [{} for _ in sets]
    kept: list[Kept] = [{} for _ in sets]
    # Seed by seed: whatever is interrupted has all methods and data sets of the seeds that are done.
    for seed in seeds:
        for data, of_data, edges in zip(sets, runs, kept, strict=True):
            _run(data, seed, asked, of_data, edges)
    for data, of_data, edges in zip(sets, runs, kept, strict=True):
        print(f"\n{_described(data, asked)}; seeds {asked.seeds}")
        _say_refused(data, asked)
        _print_curves(of_data)
        _print_verdicts(of_data)
        if data.level == "node":
            _print_cuts(data, edges)


def _run(data: GraphSet, seed: int, asked: argparse.Namespace, runs: Runs, kept: Kept) -> None:
    """Run every method that can prune such data on one seed, or what is left of it."""
    network, recipe = _network_and_recipe(data, asked)
    for name in asked.methods:
        if _refusal(name, data):
            continue
        method = get_method(name, data)
        plan = Plan(network, recipe, rounds=asked.rounds, seed=seed)
        place = f"{data.name}-{network.kind}-{network.hidden}-{recipe.epochs}-{name}-{seed}"
        began = time.monotonic()
        with RunFolder(asked.state / place, plan.settings(data, method)) as folder:
            runs.setdefault(name, []).append(prune(data, method, plan, folder, Display(Console())))
            for number in PAPER_ROUNDS:
                if number < len(folder.rounds):
                    kept.setdefault((name, number), []).append(torch.cat(folder.checkpoint(number).edges))
        print(f"{place}: {time.monotonic() - began:.0f} s now, {_seconds(runs[name][-1]):.0f} s in all", flush=True)


def _network_and_recipe(data: GraphSet, asked: argparse.Namespace) -> tuple[NetworkConfig, Recipe]:
    recipe = usual_recipe(data)
    return usual_network(data, asked.model, asked.hidden or None), replace(recipe, epochs=asked.epochs or recipe.epochs)


def _described(data: GraphSet, asked: argparse.Namespace) -> str:
    network, recipe = _network_and_recipe(data, asked)
    splits = [len(split) for split in (data.train, data.validation, data.test)]
    return (
        f"{data.name}: {len(data.graphs)} graphs, {data.edges} edges, {data.features} features, {data.classes} classes;"
        f" {splits[0]} / {splits[1]} / {splits[2]} {data.level}s to train, validate, test; {network.kind} of"
        f" {network.layers} layers, {network.hidden} channels, {recipe.epochs} epochs; ICPG's masker:"
        f" {recipe.masker_layers} layers, {recipe.masker_hidden} channels, rate"
        f" {recipe.masker_learning_rate:g}"
    )


def _refusal(name: str, data: GraphSet) -> str:
    try:
        get_method(name, data)
    except UserError as error:
        return str(error)
    return ""


def _say_refused(data: GraphSet, asked: argparse.Namespace) -> None:
    for name in asked.methods:
        if reason := _refusal(name, data):
            print(f"{name} is refused: {reason}")


def _seconds(rounds: Sequence[Round]) -> float:
    return sum(one.seconds for one in rounds)


def _print_curves(runs: Runs) -> None:
    table = Table(
        title="test accuracy %, mean ± sd over seeds (median)",
        title_justify="left",
        box=None,
        padding=(0, 1),
    )
    table.add_column("round", justify="right")
    table.add_column("weights cut %", justify="right")
    table.add_column("edges cut %", justify="right")
    curves = {name: curve(of_seeds) for name, of_seeds in runs.items()}
    for name in curves:
        table.add_column(name, justify="right")
    longest = max(curves.values(), key=len)
    for at, point in enumerate(longest):
        edges = max(points[at].edge_sparsity for points in curves.values() if at < len(points))
        cells = [str(point.round), f"{100 * point.weight_sparsity:.2f}", f"{100 * edges:.2f}"]
        for name, points in curves.items():
            if at >= len(points):
                cells.append("–")
                continue
            one = points[at]
            spread = "" if one.test_sd is None else f" ± {100 * one.test_sd:.2f}"
            median = statistics.median(rounds[at].test for rounds in runs[name])
            cells.append(f"{100 * one.test:.2f}{spread} ({100 * median:.2f})")
        table.add_row(*cells)
    Console(width=180).print(table)


def _print_verdicts(runs: Runs) -> None:
    for name, of_seeds in runs.items():
        held = holds_to(curve(of_seeds))
        known = "needs two seeds or more" if held is None else f"round {held}"
        print(f"{name}: within one standard deviation of its unpruned network up to: {known}")
    for number, (ours, theirs) in itertools.product(PAPER_ROUNDS, PAIRS):
        pairs = [
            100 * (a[number].test - b[number].test)
            for a, b in zip(runs.get(ours, []), runs.get(theirs, []), strict=False)
            if len(a) > number and len(b) > number
        ]
        if pairs:
            wins = sum(one > 0 for one in pairs)
            print(
                f"round {number}: {ours} minus {theirs}: median {statistics.median(pairs):+.2f} points"
                f" ({min(pairs):+.2f} to {max(pairs):+.2f}), better in {wins} of {len(pairs)} seeds"
            )


def _print_cuts(data: GraphSet, kept: Kept) -> None:
    """Which edges went: between classes, as one would wish, or all of some nodes, which then have no neighbour."""
    (graph,) = data.graphs
    between = graph.labels[graph.sources] != graph.labels[graph.targets]
    print(f"edges between classes: {between.float().mean():.1%} of all; medians (lowest to highest) over seeds:")
    for (name, number), every in sorted(kept.items(), key=lambda item: (item[0][1], item[0][0])):
        if all(edges.all() for edges in every):
            continue
        wrong = [between[~edges].float().mean().item() for edges in every]
        alone = [1 - len(graph.targets[edges].unique()) / len(graph.labels) for edges in every]
        print(
            f"  round {number}, {name}: {_shares(wrong)} of the cut edges are between classes; {_shares(alone)} of the"
            " nodes have no neighbour left"
        )


def _shares(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1%} ({min(values):.1%} to {max(values):.1%})"


def cost(options: Sequence[str] = ()) -> None:
    """What cut edges, cut weights and narrower layers cost on a device; weights from a seed, cuts by lot."""
    parser = argparse.ArgumentParser("graphs-cost")
    parser.add_argument("--device", default="local")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--datasets", default="cora,mnist-superpixels")
    parser.add_argument("--model", default="gcn")
    parser.add_argument("--hidden", type=int, default=0, help="0: as published")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--state", type=Path, default=Path(".hwloop") / "benchmark-graphs-cost")
    asked = parser.parse_args(options)
    asked.state.mkdir(parents=True, exist_ok=True)
    display = Display(Console())
    for name in asked.datasets.split(","):
        folder = asked.data / ("mnist" if "mnist" in name else "planetoid")
        data = open_graphs(name, folder, asked.state, display, SuperpixelConfig(64, 64, 64))
        network = usual_network(data, asked.model, asked.hidden or None)
        about = f"{asked.device}-{name}-{network.kind}-{network.hidden}"
        with TrialStore(asked.state / f"trials-{about}.ndjson") as store:
            session = f"graphs-cost-{about}"
            plan = CampaignPlan(processes=asked.processes)
            bench = Bench(Inventory.find().get(asked.device), session, store, plan, display)
            identity = bench.identify(asked.state / f"device-{asked.device}.json")
            runtime = get_runtime("torch").for_device(identity.facts)
            measured = measure_deployed(_variants(data, network), runtime, bench, f"pruned networks on {name}")
        print(
            f"{name}, {network.kind} of {network.hidden} channels, on {identity.cpu}, torch, 1 thread,"
            f" {asked.processes} processes"
        )
        _print_costs(measured)


def _variants(data: GraphSet, config: NetworkConfig) -> dict[str, Deployed]:
    torch.manual_seed(0)
    network = build_network(config)
    graph = deployed_graph(data)

    def cut(edges: float, weights: float) -> Deployed:
        (kept,) = cut_edges([torch.rand(graph.edges)], edges)
        lots = {name: torch.rand(mask.shape) for name, mask in whole(network).items()}
        return Deployed(network, cut_weights(lots, whole(network), weights), graph.keep(kept))

    found = {"unpruned": cut(0, 0)}
    for share in (0.1426, 0.4312, 0.6415):
        found[f"edges -{share:.2%}"] = cut(share, 0)
    for share in (0.4880, 0.9141, 0.9885):
        found[f"weights -{share:.2%}"] = cut(0, share)
    found["edges -43.12%, weights -91.41%"] = cut(0.4312, 0.9141)
    for part in () if config.kind == "gat" else (2, 4):
        narrow = slim(network, network.config.hidden // part)
        found[f"width 1/{part}"] = Deployed(narrow, whole(narrow), graph)
    return found


def _print_costs(measured: Mapping[str, Measurement]) -> None:
    base = measured["unpruned"]
    floor = noise_floor(measured.values())
    table = Table(box=None, padding=(0, 1))
    for column in ("cut", "ms", "interval", "of unpruned", "interval of ratio", "verdict", "peak MB", "model MB"):
        table.add_column(column, justify="left" if column == "cut" else "right")
    for name, one in measured.items():
        if not (one.usable and base.usable):
            table.add_row(name, one.status, "; ".join(one.reasons))
            continue
        ratio = judge(_numbers(base), _numbers(one), floor if floor == floor else None)
        table.add_row(
            name,
            f"{one.latency_ms:.4f}",
            f"{one.interval_ms.low:.4f}–{one.interval_ms.high:.4f}",
            f"{ratio.value:.3f}",
            f"{ratio.interval.low:.3f}–{ratio.interval.high:.3f}",
            ratio.verdict,
            f"{one.peak_bytes / 1e6:.1f}",
            f"{one.model_bytes / 1e6:.1f}",
        )
    Console(width=160).print(table)
    print("noise floor unknown: one process" if math.isnan(floor) else f"noise floor {floor:.2%}")


def _numbers(one: Measurement) -> tuple[float, float, float]:
    return one.interval_ms.low, one.latency_ms, one.interval_ms.high

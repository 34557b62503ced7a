"""What a choice of edges can bring at all: networks trained on graphs whose edges are cut by rules that learn nothing.

    python -m tests.benchmarks graphs-orders [--datasets cora,citeseer] [--seeds 0,1,2,3,4] [--epochs N] [--hidden N]
                                             [--data DIR]

Every rule cuts its edges at once, at the rates of rounds 3 and 11; weights stay. Printed with each: the share of what
was cut that joins two classes, and the share of nodes that no message reaches any more. The last rule knows all labels,
which no method may: it is the bound.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from hwloop.cli.display import Display
from hwloop.graphs import Graph, GraphSet, build_network, open_graphs, train_ticket, usual_network, usual_recipe
from hwloop.graphs.masks import cut_edges, local_ranks, whole
from hwloop.graphs.messages import add_self, gcn_edges, product, propagate
from hwloop.graphs.training import derived_seed, seeded
from tests.benchmarks.graphs import DATA, PAPER_ROUNDS


def main(options: Sequence[str] = ()) -> None:
    """Citation networks."""
    parser = argparse.ArgumentParser("graphs-orders")
    parser.add_argument("--datasets", default="cora,citeseer")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--epochs", type=int, default=0, help="0: as published")
    parser.add_argument("--hidden", type=int, default=0, help="0: as published")
    parser.add_argument("--data", type=Path, default=DATA)
    asked = parser.parse_args(options)
    torch.set_num_threads(1)
    display = Display(Console())
    for name in asked.datasets.split(","):
        _compare(open_graphs(name, asked.data / "planetoid", Path(), display), asked, display)


def _compare(data: GraphSet, asked: argparse.Namespace, display: Display) -> None:
    config = usual_network(data, "gcn", asked.hidden or None)
    recipe = usual_recipe(data)
    recipe = replace(recipe, epochs=asked.epochs or recipe.epochs)
    (graph,) = data.graphs
    seeds = [int(one) for one in asked.seeds.split(",")]
    rates = [1 - 0.95**number for number in PAPER_ROUNDS]
    names = list(_scores(graph, data.features, 0))

    def accuracy(edges: Tensor, seed: int) -> float:
        with seeded(derived_seed(seed, "network")):
            network = build_network(config)
        return 100 * train_ticket(network, whole(network), data.keep([edges]), recipe, seed).test.accuracy

    base = []
    found: dict[tuple[str, float], list[tuple[float, float, float]]] = {}
    between = _between(graph)
    with display.step(f"{data.name}, trained networks", len(seeds) * (1 + len(names) * len(rates))) as step:
        for seed in seeds:
            base.append(accuracy(torch.ones(graph.edges, dtype=torch.bool), seed))
            step.advance(1)
            for name, scores in _scores(graph, data.features, seed).items():
                for rate in rates:
                    (edges,) = cut_edges([scores], rate)
                    wrong = 100 * between[~edges].float().mean().item()
                    into = torch.bincount(graph.targets[edges], minlength=graph.nodes)
                    alone = 100 * (into == 0).float().mean().item()
                    found.setdefault((name, rate), []).append((accuracy(edges, seed), wrong, alone))
                    step.advance(1, name)
    print(
        f"\n{data.name}: gcn of {config.hidden} channels, {recipe.epochs} epochs, seeds {asked.seeds};"
        f" {between.float().mean():.1%} of all edges are between classes; test accuracy with all edges"
        f" {_spread(base)} %"
    )
    table = Table(box=None, padding=(0, 1))
    table.add_column("cut first")
    for rate in rates:
        for column in (f"-{rate:.1%}: accuracy %", "between %", "alone %"):
            table.add_column(column, justify="right")
    for name in names:
        cells = []
        for rate in rates:
            every = found[name, rate]
            wrong, alone = statistics.fmean(one[1] for one in every), statistics.fmean(one[2] for one in every)
            cells += [_spread([one[0] for one in every]), f"{wrong:.1f}", f"{alone:.1f}"]
        table.add_row(name, *cells)
    Console(width=160).print(table)


def _scores(graph: Graph, features: int, seed: int) -> dict[str, Tensor]:
    """For each rule (edges,) scores: those of the lowest are cut; ties are broken by lot."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "orders"))
    lots = torch.rand(graph.edges, generator=generator)
    words = product(graph.features, torch.eye(features))
    near = _alike(graph, _smoothed(graph, _smoothed(graph, words)))
    degree = torch.bincount(graph.targets, minlength=graph.nodes).float()
    hubs = degree[graph.sources] * degree[graph.targets]
    return {
        "by lot": lots,
        "by lot, but none left alone": lots + _last(graph, lots),
        "by lot, within each node": local_ranks(graph, lots),
        "between hubs": -hubs + lots / 2,
        "of unlike nodes": _alike(graph, words),
        "of unlike neighbourhoods": near,
        "of alike nodes": -_alike(graph, words),
        "of alike neighbourhoods": -near,
        "between classes (knows the labels)": lots - _between(graph).float(),
    }


def _between(graph: Graph) -> Tensor:
    return graph.labels[graph.sources] != graph.labels[graph.targets]


def _last(graph: Graph, lots: Tensor) -> Tensor:
    """1 for one edge into each node, drawn by lot."""
    highest = torch.zeros(graph.nodes).scatter_reduce(0, graph.targets, lots, "amax")
    return (lots == highest[graph.targets]).float()


def _smoothed(graph: Graph, values: Tensor) -> Tensor:
    """What a layer of a GCN makes of features before its weights."""
    edges = gcn_edges(graph)
    return add_self(propagate(values, edges), values, edges)


def _alike(graph: Graph, values: Tensor) -> Tensor:
    """The cosine between the two ends of each edge."""
    unit = functional.normalize(values, dim=1)
    return (unit[graph.sources] * unit[graph.targets]).sum(1)


def _spread(values: Sequence[float]) -> str:
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{spread}"

"""A search over a graph network: hidden width, edges and weights that stay, with cost measured on the device.

What a candidate costs depends on its width and its edges alone, so that a grid of both is measured once, before the
search, and every candidate's cost is a measurement; weights that are cut one by one count in the error only. The front
is measured again at the end, as the trained networks that it is.

::

    run.json           the settings
    base.pt            the trained network, and what ranks all edges
    trials-*.ndjson    journal of all trials
    search.ndjson      journal of all evaluations
    front.json         the front, measured
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hwloop.errors import DeviceError, StudyError, UserError
from hwloop.files import write_atomic
from hwloop.graphs import (
    Deployed,
    GraphNetwork,
    GraphSet,
    Plan,
    Rates,
    deployed_graph,
    get_ranking,
    initial_network,
    measure_deployed,
    slim,
    train_ticket,
)
from hwloop.graphs.deployment import MEASURED_GRAPHS, macs_of, state_of
from hwloop.graphs.masks import Masks, cut_edges, cut_weights, matrices, whole
from hwloop.graphs.methods import Situation
from hwloop.graphs.training import Ticket, derived_seed
from hwloop.measurement import Bench, Measurement
from hwloop.predictors import Prediction
from hwloop.progress import Progress
from hwloop.pruning import Candidate
from hwloop.runtimes import Runtime
from hwloop.search import OneByOne, SearchResult, run_search
from hwloop_agent.journal import Journal

IntArray = NDArray[np.int64]
WIDTH, EDGES, WEIGHTS = range(3)
NAMES = ("hidden", "edges", "weights")


@dataclass(frozen=True)
class GraphSpace:
    """The candidates: hidden channels, percent of the edges that stay, percent of the weights that stay.

    They are the three `widths` of a `Candidate`; nothing else is removed.

    Attributes:
        hidden: that a candidate may have, ascending; the last is the base network's.
        edges: percentages, ascending; the last is 100.
        weights: likewise.
    """

    hidden: tuple[int, ...]
    edges: tuple[int, ...] = (30, 40, 50, 60, 70, 80, 90, 100)
    weights: tuple[int, ...] = (2, 5, 10, 20, 35, 50, 70, 100)
    blocks: tuple[Any, ...] = ()

    @classmethod
    def of(cls, hidden: int, steps: int = 8) -> GraphSpace:
        """The space of a network with so many hidden channels, in equal steps of them."""
        return cls(tuple(sorted({max(1, hidden * step // steps) for step in range(1, steps + 1)})))

    @property
    def base(self) -> Candidate:
        """The unpruned network."""
        return Candidate(tuple(self.levels(group)[-1] for group in range(len(NAMES))))

    def levels(self, group: int) -> tuple[int, ...]:
        """What a variable may be, ascending."""
        return (self.hidden, self.edges, self.weights)[group]

    def candidate(self, widths: Sequence[int], remains: Sequence[bool] | None = None) -> Candidate:
        """The candidate of these three numbers."""
        return Candidate(tuple(map(int, widths)))

    def arrays(self, candidates: Sequence[Candidate]) -> tuple[IntArray, NDArray[np.bool_]]:
        """(n, 3) numbers; no blocks."""
        widths = np.array([one.widths for one in candidates], dtype=np.int64).reshape(-1, len(NAMES))
        return widths, np.ones((len(candidates), 0), dtype=np.bool_)

    def text(self, candidate: Candidate) -> str:
        """The candidate for people: "hidden=128 edges=70 weights=20"."""
        return " ".join(f"{name}={value}" for name, value in zip(NAMES, candidate.widths, strict=True))


@dataclass(frozen=True)
class Ranked:
    """The base network with what ranks its edges: everything that candidates are made of.

    Attributes:
        data: the graphs, unpruned.
        network: trained.
        scores: (edges,) of each graph, by which they are cut.
        plan: of the base network; its recipe trains candidates further.
        epochs: of a candidate.
    """

    data: GraphSet
    network: GraphNetwork
    scores: list[Tensor]
    plan: Plan
    epochs: int

    def parts(self, candidate: Candidate) -> tuple[GraphNetwork, Masks, GraphSet]:
        """A candidate's network before it is trained further, its masks and its graphs."""
        hidden, edges, weights = candidate.widths
        network = slim(self.network, hidden)
        sizes = {name: one.detach().abs() for name, one in matrices(network).items()}
        masks = cut_weights(sizes, whole(network), 1 - weights / 100)
        return network, masks, self.data.keep(cut_edges(self.scores, 1 - edges / 100))

    def train(self, candidate: Candidate) -> tuple[Ticket, Deployed]:
        """Train a candidate further from the base network's weights; the same candidate ends the same."""
        network, masks, data = self.parts(candidate)
        recipe = replace(self.plan.recipe, epochs=self.epochs)
        seed = derived_seed(self.plan.seed, *candidate.widths)
        ticket = train_ticket(network, masks, data, recipe, seed)
        return ticket, Deployed(state_of(network, ticket.state), masks, deployed_graph(data))

    def error(self, candidate: Candidate) -> float:
        """A candidate's error on the validation split."""
        return 1 - self.train(candidate)[0].validation.accuracy


@dataclass(frozen=True)
class GridCosts:
    """A `CostModel` of measurements: every width with every percentage of edges was measured.

    Attributes:
        ranked: what candidates are made of.
        measured: by (hidden, edges).
    """

    ranked: Ranked
    measured: Mapping[tuple[int, int], Measurement]

    @property
    def scalable(self) -> GridCosts:
        """The network's sizes."""
        return self

    @cached_property
    def _sizes(self) -> dict[tuple[int, int], tuple[int, int, int]]:
        """By (hidden, edges): weights in matrices, other parameters, multiply-accumulates."""
        found = {}
        for hidden, edges in self.measured:
            network, _, data = self.ranked.parts(Candidate((hidden, edges, 100)))
            weights = sum(one.numel() for one in matrices(network).values())
            every = sum(one.numel() for one in network.parameters())
            found[hidden, edges] = (weights, every - weights, macs_of(network.eval(), deployed_graph(data)))
        return found

    def parameters(self, widths: ArrayLike, blocks: ArrayLike | None = None) -> IntArray:
        """(n,) parameters that are not cut."""
        rows = np.asarray(widths, dtype=np.int64).tolist()
        found = []
        for hidden, edges, kept in rows:
            weights, others, _ = self._sizes[hidden, edges]
            found.append(weights - int((1 - kept / 100) * weights) + others)
        return np.array(found, dtype=np.int64)

    def macs(self, widths: ArrayLike, blocks: ArrayLike | None = None) -> IntArray:
        """(n,) multiply-accumulates as they are executed: weights that are cut one by one are multiplied as zeros."""
        rows = np.asarray(widths, dtype=np.int64).tolist()
        return np.array([self._sizes[hidden, edges][2] for hidden, edges, _ in rows], dtype=np.int64)

    def predict(self, widths: ArrayLike, blocks: ArrayLike | None = None) -> Prediction:
        """What (n, 3) candidates cost: measured."""
        rows = np.asarray(widths, dtype=np.int64).tolist()
        found = [self.measured[hidden, edges] for hidden, edges, _ in rows]
        latency = np.array([one.latency_ms for one in found])
        return Prediction(
            latency_ms=latency,
            low_ms=np.array([one.interval_ms.low for one in found]),
            high_ms=np.array([one.interval_ms.high for one in found]),
            peak_bytes=np.array([one.peak_bytes or np.nan for one in found], dtype=np.float64),
            sum_of_layers_ms=latency,
            interpolated_share=np.zeros(len(found)),
            roofline=(),
            missing=(),
            energy_mj=np.array([one.energy_mj for one in found], dtype=np.float64),
        )


@dataclass(frozen=True)
class SearchPlan:
    """How to search.

    Attributes:
        objectives: names of what is minimised.
        algorithm: a name of `hwloop.search.list_algorithms`.
        population: candidates per generation.
        generations: with the first one.
        epochs: that a candidate is trained further, from the base network's weights.
        ranking: a name that `hwloop.graphs.get_ranking` knows, of what ranks the edges once for all candidates.
    """

    objectives: tuple[str, ...] = ("error", "latency_ms", "peak_memory_mb")
    algorithm: str = "nsga2"
    population: int = 16
    generations: int = 8
    epochs: int = 30
    ranking: str = "random-edges-local"

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise UserError(f"epochs of a candidate are {self.epochs}: at least 1")
        get_ranking(self.ranking)  # said before anything is trained


def search_graphs(
    data: GraphSet,
    plan: Plan,
    wanted: SearchPlan,
    root: Path,
    runtime: Runtime,
    bench: Bench,
    cpu: str,
    progress: Progress,
) -> dict[str, Any]:
    """Search, or go on with a search; the front is measured as the trained networks that it is.

    Args:
        data: the graphs.
        plan: the base network and how it is trained; its rounds and rates are not used.
        wanted: how to search.
        root: the search's folder, claimed for this search.
        runtime: for the bench's device.
        bench: where cost is measured.
        cpu: the name of its processor (see `hwloop.measurement.Identity`).
        progress: is told of everything.

    Returns:
        What `front.json` holds.

    Raises:
        UserError: an unknown objective or algorithm, a network that cannot be narrowed.
        StudyError: the folder's journal is of another search, or a file in it is damaged.
        DeviceError: the device was lost for good, or has no number for a network of the grid.
    """
    ranked = _rank(data, plan, wanted, root / "base.pt", progress)
    space = GraphSpace.of(plan.network.hidden)
    costs = _measure_grid(ranked, space, runtime, bench)
    journal = Journal.open(root / "search.ndjson")
    try:
        found = run_search(
            space,
            OneByOne(ranked.error),
            costs,
            wanted.objectives,
            algorithm=wanted.algorithm,
            population=wanted.population,
            generations=wanted.generations,
            seed=plan.seed,
            journal=journal,
            progress=progress,
            context={"data": data.fingerprint, "epochs": str(wanted.epochs)},
        )
    finally:
        journal.close()
    chosen = [one.candidate for one in found.front]
    if space.base not in chosen:
        chosen.append(space.base)
    trained = {space.text(one): ranked.train(one) for one in chosen}
    deployed = {text: network for text, (_, network) in trained.items()}
    measured = measure_deployed(deployed, runtime, bench, "the front")
    grid = {space.text(one): costs.measured[one.widths[WIDTH], one.widths[EDGES]] for one in chosen}
    sizes = zip(
        costs.parameters([one.widths for one in chosen]), costs.macs([one.widths for one in chosen]), strict=True
    )
    rows = [
        _row(one, space, trained[space.text(one)][0], measured[space.text(one)], grid[space.text(one)])
        | {"parameters": int(parameters), "macs": int(macs)}
        for one, (parameters, macs) in zip(chosen, sizes, strict=True)
    ]
    result = {
        "dataset": data.name,
        "edges": data.edges,
        "network": plan.network.content(),
        "search": asdict(wanted),
        "evaluated": len(found.evaluated),
        "hypervolume": found.hypervolume[-1] if found.hypervolume else 0.0,
        "base": space.text(space.base),
        "front": rows,
        "candidates": _evaluated(found, costs),
        "conditions": _conditions(data, bench, cpu, measured[space.text(space.base)]),
    }
    write_atomic(root / "front.json", json.dumps(result, indent=1) + "\n")
    return result


def search_settings(data: GraphSet, plan: Plan, wanted: SearchPlan) -> dict[str, object]:
    """What identifies a search; the number of generations does not, so that it can be continued."""
    return plan.settings(data, get_ranking(wanted.ranking)) | {
        "objectives": wanted.objectives,
        "algorithm": wanted.algorithm,
        "population": wanted.population,
        "epochs_of_candidates": wanted.epochs,
    }


def _evaluated(found: SearchResult, costs: GridCosts) -> list[dict[str, Any]]:
    """What was evaluated, for the figure; nothing where the error was no objective."""
    if "error" not in found.objectives:
        return []
    at = found.objectives.index("error")
    return [
        {
            "candidate": one.text,
            "error": one.values[at],
            "latency_ms": costs.measured[one.candidate.widths[WIDTH], one.candidate.widths[EDGES]].latency_ms,
        }
        for one in found.evaluated
        if not one.failure
    ]


def _conditions(data: GraphSet, bench: Bench, cpu: str, base: Measurement) -> dict[str, Any]:
    """Of the device and the software, for the report's foot."""
    facts = base.provenance
    kept = ("governor", "clock_mhz", "temperature_c", "throttle", "canary_ratio", "measured_at")
    return {
        "device": f"{bench.device.name} ({cpu})",
        "runtime": "torch",
        "runtime_version": facts.get("runtime_version"),
        "threads": bench.plan.threads,
        "processes": bench.plan.processes,
        "inference": "all nodes" if data.level == "node" else f"the first {MEASURED_GRAPHS} test graphs",
        **{name: facts.get(name) for name in kept},
        "trials": len(bench.store),
        "confidence": bench.plan.timing.confidence,
    }


def _row(
    candidate: Candidate, space: GraphSpace, ticket: Ticket, measured: Measurement, grid: Measurement
) -> dict[str, Any]:
    usable = measured.usable
    hidden, edges, weights = candidate.widths
    return {
        "candidate": space.text(candidate),
        "hidden": hidden,
        "edges_cut": 1 - edges / 100,
        "weights_cut": 1 - weights / 100,
        "validation": ticket.validation.accuracy,
        "test": ticket.test.accuracy,
        "status": measured.status,
        "latency_ms": measured.latency_ms if usable else None,
        "low_ms": measured.interval_ms.low if usable else None,
        "high_ms": measured.interval_ms.high if usable else None,
        "peak_bytes": measured.peak_bytes,
        "grid_latency_ms": grid.latency_ms,
    }


def _rank(data: GraphSet, plan: Plan, wanted: SearchPlan, kept: Path, progress: Progress) -> Ranked:
    """Train the base network and rank the edges; once per search."""
    network = initial_network(plan)
    slim(network, network.config.hidden)  # said before anything is trained
    if not kept.exists():
        with progress.step(f"base network and ranks of edges on {data.name}", 2) as step:
            ticket = train_ticket(
                copy.deepcopy(network), whole(network), data, plan.recipe, derived_seed(plan.seed, "base")
            )
            step.advance(1, f"validation {ticket.validation.accuracy:.3f}")
            now = Situation(
                data, copy.deepcopy(network), whole(network), ticket.state, plan.recipe, Rates(), plan.seed, 1
            )
            scores = get_ranking(wanted.ranking).rank_edges(now)
            step.advance()
        buffer = io.BytesIO()
        content = {"state": ticket.state, "scores": torch.cat(scores), "sizes": [len(one) for one in scores]}
        torch.save(content, buffer)
        write_atomic(kept, buffer.getvalue())
    try:
        known = torch.load(kept, weights_only=True)
        scores = list(torch.split(known["scores"], known["sizes"]))
        return Ranked(data, state_of(network, known["state"]), scores, plan, wanted.epochs)
    except (OSError, RuntimeError, KeyError, EOFError) as error:
        reason = " ".join(str(error).split())[:120]
        raise StudyError(f"{kept}: is damaged ({reason}); delete it and the base network is trained again") from error


def _measure_grid(ranked: Ranked, space: GraphSpace, runtime: Runtime, bench: Bench) -> GridCosts:
    pairs = [(hidden, edges) for hidden in space.hidden for edges in space.edges]
    subjects = {}
    for hidden, edges in pairs:
        network, masks, data = ranked.parts(Candidate((hidden, edges, 100)))
        subjects[f"hidden={hidden} edges={edges}"] = Deployed(network, masks, deployed_graph(data))
    found = measure_deployed(subjects, runtime, bench, f"{len(pairs)} widths and edges")
    measured = dict(zip(pairs, (found[name] for name in subjects), strict=True))
    for pair, one in measured.items():
        if not one.usable:
            raise DeviceError(
                f"hidden={pair[0]} edges={pair[1]} has no latency: {one.status}, {'; '.join(one.reasons)}"
            )
    return GridCosts(ranked, measured)

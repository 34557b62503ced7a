"""Every network of the zoo in every runtime, with one and two threads: one table, every cell filled or explained.

    python -m tests.benchmarks zoo [--quick] [--device NAME] [--json FILE] [--state DIR] [--minutes N]
                                   [--models A,B] [--runtimes A,B] [--threads 1,2] [--tables DIR --name NAME]

Whole networks come first, then the layers alone, runtime by runtime. What does not fit into the minutes is said to be
missing for want of time; the same command goes on where it stopped, with the minutes it is given then. `--tables` also
writes the layers of all networks as latency tables, one for each runtime and number of threads (`latency_tables/`).
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hwloop.cli.display import Display
from hwloop.devices import Inventory
from hwloop.errors import UserError
from hwloop.measurement import Bench, CampaignPlan, Identity, TimingProtocol, TrialStore
from hwloop.models import list_models, model_defaults
from hwloop.profiling import (
    Collection,
    NetworkResult,
    Timing,
    TorchModel,
    Wanted,
    add_layers,
    load_results,
    measure_network,
    save_result,
)
from hwloop.profiling.memory import PEAK
from hwloop.runtimes import Runtime, get_runtime
from hwloop.tables import LatencyTable, measure_layers

NETWORKS = TimingProtocol(warmup_s=0.1, min_s=0.15, max_s=1.0, target_relative_interval=0.02)
LAYERS = TimingProtocol(warmup_s=0.03, min_s=0.03, max_s=0.2, target_relative_interval=0.03)
ALONE = CampaignPlan(processes=1, timing=LAYERS, attempts=1)
"""How a layer is measured alone."""
RUNTIMES = ("onnxruntime", "litert", "tvm", "torch")
SAME_LAYERS = ("resnet32", "resnet44")
"""CIFAR ResNets of other depths: their layers are those of resnet20; measured when they are asked for."""
QUICK = ("lenet5", "resnet8", "mobilenet_v2")
COLUMNS = ("network", "runtime", "thr.", "end to end ms", "interval", "sum of layers ms", "gap", "peak MB", "file MB")
LATE = "no time left: run the same command again to go on"


@dataclass(frozen=True)
class Cell:
    """One network in one runtime with so many threads."""

    model: str
    runtime: str
    threads: int

    @property
    def file(self) -> str:
        """Name of the file that keeps its result."""
        return f"{self.model}-{self.runtime}-{self.threads}.json".replace(":", "-").replace("/", "-")


@dataclass
class Zoo:
    """The measuring of all cells.

    Attributes:
        folder: with the journal, and a file for each finished cell.
        bench: the device and the store.
        identity: what the device is.
        deadline: on `clock`; nothing is begun after it.
        clock: seconds.
        models: those that were built so far.
    """

    folder: Path
    bench: Bench
    identity: Identity
    deadline: float
    clock: Callable[[], float] = time.monotonic
    models: dict[str, TorchModel] = field(default_factory=dict)

    def measure(self, cells: Sequence[Cell]) -> dict[Cell, NetworkResult]:
        """Fill the cells, networks first; the layers runtime by runtime, those that start fastest first."""
        found: dict[Cell, NetworkResult] = {}
        for cell in cells:
            kept = self.folder / cell.file
            if kept.exists():
                (found[cell],) = load_results(kept)
            elif self.clock() < self.deadline:
                found[cell] = self._whole(cell)
                save_result(found[cell], kept)
        for cell in sorted(found, key=lambda cell: RUNTIMES.index(cell.runtime.partition(":")[0])):
            result = found[cell]
            if result.layers is None and not result.missing and self.clock() < self.deadline:
                found[cell] = self._layers(cell, result)
                save_result(found[cell], self.folder / cell.file)
        return found

    def table(self, cells: Sequence[Cell]) -> LatencyTable:
        """The layers of all networks of some cells of one runtime and number of threads; measures what is missing."""
        runtime = self._runtime(cells[0])
        networks = [self._model(cell.model).network(runtime.fusion) for cell in cells]
        layers = [layer for network in networks for layer in network.layers]
        bench = replace(self.bench, plan=replace(ALONE, threads=cells[0].threads))
        return measure_layers(layers, runtime, bench, self.identity, f"layers of the zoo in {cells[0].runtime}")

    def _model(self, name: str) -> TorchModel:
        if name not in self.models:
            usual = model_defaults(name)
            self.models[name] = TorchModel(name, usual.input_shape, usual.num_classes, Path.cwd())
        return self.models[name]

    def _runtime(self, cell: Cell) -> Runtime:
        return get_runtime(cell.runtime).for_device(self.identity.facts)

    def _whole(self, cell: Cell) -> NetworkResult:
        try:
            runtime = self._runtime(cell)
        except UserError as error:
            return self._without(cell, str(error))
        plan = CampaignPlan(processes=2, threads=cell.threads, timing=NETWORKS)
        bench = replace(self.bench, plan=plan)
        return measure_network(self._model(cell.model), runtime, bench, self.identity, Wanted())

    def _layers(self, cell: Cell, result: NetworkResult) -> NetworkResult:
        try:
            bench = replace(self.bench, plan=replace(ALONE, threads=cell.threads))
            return add_layers(result, self._model(cell.model), self._runtime(cell), bench)
        except UserError as error:
            return result.model_copy(update={"missing": {"all layers": str(error)}})

    def _without(self, cell: Cell, reason: str) -> NetworkResult:
        """The result of a cell whose runtime cannot be had."""
        return NetworkResult(
            model=cell.model,
            device=self.bench.device.name,
            cpu=self.identity.cpu,
            runtime=cell.runtime,
            runtime_version=None,
            threads=cell.threads,
            agent_sha256=self.identity.agent_sha256,
            measured_at="",
            artifact_sha256=None,
            artifact_bytes=None,
            parameters=None,
            macs=None,
            end_to_end=Timing(status="unsupported", reasons=(reason,)),
            missing={"all layers": reason},
        )


def main(arguments: Sequence[str] = ()) -> None:
    """Measure and print the table."""
    wanted = _parse(arguments)
    console = Console(width=160)
    progress = Display(console)
    models = wanted.models.split(",") if wanted.models else QUICK if wanted.quick else _all_models()
    cells = [
        Cell(model, runtime, int(threads))
        for model in models
        for runtime in wanted.runtimes.split(",")
        for threads in wanted.threads.split(",")
    ]
    folder = Path(wanted.state)
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with TrialStore(folder / "trials.ndjson") as store:
        session = "zoo-" + hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        device = Inventory.find().get(wanted.device)
        device = replace(device, name=wanted.name or device.name)
        bench = Bench(device, session, store, CampaignPlan(), progress)
        identity = bench.identify(folder / "device.json")
        zoo = Zoo(folder, bench, identity, began + 60 * wanted.minutes)
        found = zoo.measure(cells)
        if wanted.tables:
            _write_tables(zoo, cells, Path(wanted.tables) / bench.device.name)
    console.print(f"\n{bench.device.name} ({identity.cpu}); {(time.monotonic() - began) / 60:.1f} minutes this time")
    show(cells, found, console)
    if wanted.json:
        save_result(Collection(results=tuple(found.values())), Path(wanted.json))


def _write_tables(zoo: Zoo, cells: Sequence[Cell], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for runtime, threads in dict.fromkeys((cell.runtime, cell.threads) for cell in cells):
        of_kind = [cell for cell in cells if (cell.runtime, cell.threads) == (runtime, threads)]
        zoo.table(of_kind).save(folder / f"{runtime.replace(':', '-')}-{threads}.parquet")


def _all_models() -> list[str]:
    return [name for name in list_models() if name not in SAME_LAYERS]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks zoo")
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--device", default="local")
    parser.add_argument("--json", default="")
    parser.add_argument("--state", default=".hwloop/zoo")
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--models", default="")
    parser.add_argument("--tables", default="")
    parser.add_argument("--name", default="", help="what the device is called in the tables")
    parser.add_argument("--runtimes", default=",".join(RUNTIMES))
    parser.add_argument("--threads", default="1,2")
    return parser.parse_args(list(arguments))


def show(cells: Sequence[Cell], found: dict[Cell, NetworkResult], console: Console) -> None:
    """Print one row for each cell, and why something is missing."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in ("network", "runtime") else "right", no_wrap=True)
    notes: dict[str, int] = {}

    def note(text: str) -> str:
        return f"[{notes.setdefault(text, len(notes) + 1)}]"

    for cell in cells:
        result = found.get(cell)
        if result is None:
            table.add_row(cell.model, cell.runtime, str(cell.threads), *[note(LATE)] * 6)
            continue
        low, latency, high = result.end_to_end.numbers
        reasons = "; ".join(result.end_to_end.reasons)
        usable = result.end_to_end.usable
        missing = note(f"{result.end_to_end.status}: {reasons}") if not usable else ""
        peak = result.size(PEAK)
        table.add_row(
            cell.model,
            cell.runtime,
            str(cell.threads),
            f"{latency:.3f}{'!' if result.end_to_end.status == 'degraded' else ''}" if usable else missing,
            f"{low:.3f}–{high:.3f}" if usable else missing,
            _sum(result, note),
            _sum(result, note) if result.gap is None else f"{100 * result.gap:+.0f} %",
            f"{peak.bytes / 1e6:.1f}" if peak else missing,
            f"{result.artifact_bytes / 1e6:.2f}" if result.artifact_bytes else missing,
        )
    console.print(table)
    console.print("! degraded conditions. gap: sum of the layers alone over end to end, less one.", highlight=False)
    for text, number in notes.items():
        console.print(f"[{number}] {text}", highlight=False, markup=False, soft_wrap=True)


def _sum(result: NetworkResult, note: Callable[[str], str]) -> str:
    if result.sum_ms is not None:
        return f"{result.sum_ms:.3f}" if result.end_to_end.usable else note("no end to end to compare with")
    if result.missing:
        return note("; ".join(dict.fromkeys(result.missing.values())))
    return note(LATE)

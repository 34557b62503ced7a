"""TVM beside onnxruntime: every convolution of ResNet-56 and MobileNetV2, one thread, tuned and untuned.

`python -m tests.benchmarks tvm-ratio [--budget-s 600] [--trials 12] [--records FILE]`. Both runtimes run the artifacts
that a campaign would run, called as the agent calls them, and take turns convolution by convolution.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from hwloop.extraction import network_from_torch
from hwloop.layers import Layer
from hwloop.models import build_model
from hwloop.runtimes import Artifact, OnnxRuntime, TvmRuntime
from hwloop.runtimes.tvm import Effort
from hwloop_agent.runtimes import RUNTIMES

NETWORKS = {"resnet56": (3, 32, 32), "mobilenet_v2": (3, 224, 224)}
ROUNDS = 15
BUNDLE_S = 0.002


@dataclass(frozen=True)
class Row:
    """One distinct convolution: how often the networks have it, and medians in µs."""

    layer: Layer
    count: int
    onnxruntime_us: float
    tuned_us: float
    estimated_us: float
    schedule: str
    source: str
    trials: int

    @property
    def ratio(self) -> float:
        """Tuned TVM over onnxruntime."""
        return self.tuned_us / self.onnxruntime_us

    @property
    def untuned_ratio(self) -> float:
        """TVM with guessed schedules over onnxruntime."""
        return self.estimated_us / self.onnxruntime_us


def main(arguments: list[str] | None = None) -> None:
    """Tune, then measure all, then print."""
    if importlib.util.find_spec("tvm") is None:
        print("tvm is not installed: pip install 'hwloop[tvm]'")
        return
    parser = argparse.ArgumentParser(prog="tvm-ratio")
    parser.add_argument("--budget-s", type=float, default=600.0, help="seconds of tuning for all convolutions together")
    parser.add_argument("--trials", type=int, default=12, help="schedules per convolution")
    parser.add_argument("--records", type=Path, help="file of timings, used and extended; else tuning begins anew")
    given = parser.parse_args(arguments or [])
    with tempfile.TemporaryDirectory() as folder:
        _compare(given.records or Path(folder) / "records.jsonl", Effort(given.trials, given.budget_s), Path(folder))


def _compare(records: Path, effort: Effort, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ["TVM_NUM_THREADS"], os.environ["TVM_BIND_THREADS"] = "1", "0"
    convolutions = {
        name: [layer for layer in _layers(name, shape) if layer.op == "conv"] for name, shape in NETWORKS.items()
    }
    counts = Counter(layer for layers in convolutions.values() for layer in layers)
    tuned, estimated = TvmRuntime(records=records), TvmRuntime(records=None)
    spent_s = tuned.tune(counts.elements(), effort)
    rows, built_ms = {}, []
    for number, (layer, count) in enumerate(counts.items()):
        began = time.perf_counter()
        artifact = tuned.layer(layer)
        built_ms.append(1e3 * (time.perf_counter() - began))
        artifacts = [OnnxRuntime().layer(layer), artifact, estimated.layer(layer)]
        times = _take_turns([_loaded(one, folder / f"{number}-{at}{one.suffix}") for at, one in enumerate(artifacts)])
        options = artifact.options
        rows[layer] = Row(layer, count, *times, options["schedule"], options["source"], options["trials"])
    _print(rows, convolutions)
    distinct, trials = {row.schedule for row in rows.values()}, sum(row.trials for row in rows.values())
    print(
        f"tuning in this run: {spent_s:.0f} s (limit {effort.seconds:.0f} s); {trials} trials known, "
        f"{len(rows)} distinct convolutions, {len(distinct)} distinct schedules; target {tuned.processor.text}"
    )
    print(f"compiling one convolution: median {statistics.median(built_ms):.0f} ms, longest {max(built_ms):.0f} ms")


def _layers(name: str, shape: tuple[int, ...]) -> Iterable[Layer]:
    module = build_model(name, num_classes=10, in_channels=shape[0], image_size=shape[1])
    return network_from_torch(module.eval(), shape, rules=TvmRuntime().fusion).layers


def _loaded(artifact: Artifact, path: Path) -> Callable[[], object]:
    """The artifact in the agent's runtime, as a worker runs it."""
    path.write_bytes(artifact.data)
    runtime = RUNTIMES[artifact.runtime]()
    options = dict(artifact.options)
    runtime.prepare(options)
    runtime.import_()
    runtime.load(str(path), [one.to_spec() for one in artifact.inputs], 1, options)
    run = runtime.runner()
    run()
    return run


def _take_turns(runs: list[Callable[[], object]]) -> list[float]:
    """Median over rounds of µs per run; in each round every run gets its turn.

    In the thread's own processor time: both runtimes compute in the calling thread, and what another program takes of
    the core counts for neither.
    """
    bundles = []
    for run in runs:
        began = time.thread_time()
        for _ in range(5):
            run()
        bundles.append(max(3, math.ceil(BUNDLE_S / ((time.thread_time() - began) / 5))))
    samples: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS):
        for sample, run, bundle in zip(samples, runs, bundles, strict=True):
            began = time.thread_time()
            for _ in range(bundle):
                run()
            sample.append(1e6 * (time.thread_time() - began) / bundle)
    return [statistics.median(sample) for sample in samples]


def _print(rows: dict[Layer, Row], convolutions: dict[str, list[Layer]]) -> None:
    print(f"{'times':>5} {'ort µs':>8} {'tvm µs':>8} {'ratio':>6} {'guess':>6}  schedule")
    for row in sorted(rows.values(), key=lambda one: one.ratio):
        key = replace(row.layer, bias=False, activation="", residual=False).key.removesuffix(" float32")
        print(
            f"{row.count:>5} {row.onnxruntime_us:>8.1f} {row.tuned_us:>8.1f} {row.ratio:>6.2f} "
            f"{row.untuned_ratio:>6.2f}  {row.schedule} ({row.source}, {row.trials})  {key}"
        )
    every = [layer for layers in convolutions.values() for layer in layers]
    for name, layers in [*convolutions.items(), ("both", every)]:
        ratios = sorted(rows[layer].ratio for layer in layers)
        untuned = sorted(rows[layer].untuned_ratio for layer in layers)
        low, middle, high = (
            statistics.quantiles(ratios, n=10)[0],
            statistics.median(ratios),
            ratios[int(0.9 * len(ratios))],
        )
        print(
            f"{name}, {len(layers)} convolutions: TVM over onnxruntime, median {middle:.2f} "
            f"(deciles {low:.2f}–{high:.2f}, worst {ratios[-1]:.2f}); within 1.5: "
            f"{sum(one <= 1.5 for one in ratios)}, within 3: {sum(one <= 3 for one in ratios)}; "
            f"median untuned (guessed schedules) {statistics.median(untuned):.2f}"
        )

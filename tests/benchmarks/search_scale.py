"""How evaluation scales: candidates a second with processes and a cluster, trials a second with a farm of devices."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from hwloop.datasets import ImageSet
from hwloop.layers import Layer
from hwloop.measurement import Farm, Subject
from hwloop.models import build_model
from hwloop.pruning import RECALIBRATED, Candidate, ErrorEstimator, HeldOut, Recalibration, plan_surgery, pruning_space
from hwloop.runtimes import get_runtime
from hwloop.search import BatchEvaluator, ErrorOf, LocalWorkers, OneByOne, available_cpus
from tests.measurement.farming import ReplayStation, faults_of, record
from tests.search.clusters import LocalCluster

SHAPE = (3, 32, 32)


def main(options: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(prog="search-scale")
    parser.add_argument("--candidates", type=int, default=16, help="per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=500, help="each candidate is judged on")
    parser.add_argument("--devices", type=int, default=64)
    parser.add_argument("--subjects", type=int, default=1024)
    parser.add_argument("--trial-s", type=float, default=0.25)
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args(options)
    evaluations(chosen.candidates, chosen.rounds, chosen.images)
    for seed in range(chosen.seeds):
        farm(chosen.devices, chosen.subjects, chosen.trial_s, seed)


def evaluations(count: int, rounds: int, images: int) -> None:
    """ResNet-20 on random images of CIFAR-10's size: what an evaluation costs does not depend on the weights."""
    module = build_model("resnet20", num_classes=10, in_channels=3).eval()
    space = pruning_space(module, SHAPE, grain=8)
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((images + 512, *SHAPE), dtype=np.float32)
    labels = rng.integers(0, 10, images + 512)
    plan = plan_surgery(module, space)
    recalibration, held_out = ImageSet(pixels[:512], labels[:512]), ImageSet(pixels[512:], labels[512:])

    def judge() -> ErrorEstimator:
        """A new one, that knows no candidate: else the first in line would have done the others' work."""
        return ErrorEstimator(RECALIBRATED, plan, Recalibration(recalibration), HeldOut(held_out), threads=1)

    batches = [_candidates(space, count, rng) for _ in range(rounds + 1)]
    print(
        f"evaluation: resnet20, {images} images, judged in {judge().conditions['judge_dtype']}, {rounds} rounds of"
        f" {count} candidates, {available_cpus()} CPUs may be used, load {os.getloadavg()[0]:.1f}"
    )
    found = {}
    for name, opened in (
        ("in this process", _here(judge())),
        ("1 local worker", _local(judge(), 1)),
        ("2 local workers", _local(judge(), 2)),
        ("dask cluster of 2", _cluster(judge())),
    ):
        if name.startswith("dask") and find_spec("distributed") is None:
            print(f"  {name:18} dask is not installed")
            continue
        with opened as evaluator:
            began = time.perf_counter()
            errors = [_errors(evaluator, batches[0])]
            first = time.perf_counter() - began
            rates = []
            for batch in batches[1:]:
                began = time.perf_counter()
                errors.append(_errors(evaluator, batch))
                rates.append(count / (time.perf_counter() - began))
        found[name] = errors
        median, low, high = statistics.median(rates), min(rates), max(rates)
        print(f"  {name:18} {median:6.2f} evaluations/s ({low:.2f} to {high:.2f}); first batch {first:.1f} s")
    same = all(errors == next(iter(found.values())) for errors in found.values())
    print(f"  all errors the same to the bit: {same}")


def farm(devices: int, count: int, trial_s: float, seed: int) -> None:
    """Devices that replay; see `farming.faults_of`. The ideal: all that are not broken work all the time."""
    subjects = _subjects(count)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recording = record(folder / "pi.parquet", subjects)
        faults = faults_of(devices, trial_s, seed)
        stations = {
            device: ReplayStation(device, recording, folder, fault, sleep=lambda _: time.sleep(0.1))
            for device, fault in faults.items()
        }
        broken = [device for device, fault in faults.items() if len(fault.lose_at) > 100]
        ideal = sum(1 / fault.trial_s for device, fault in faults.items() if device not in broken)
        with Farm(stations) as together:
            began = time.perf_counter()
            measured = together.measure(subjects, "networks")
            took = time.perf_counter() - began
        trials = sum(len(station.store) for station in stations.values())
        for station in stations.values():
            station.store.close()
    slow = sum(fault.trial_s > trial_s for fault in faults.values())
    lost = len(subjects) - sum(each.usable for each in measured.values())
    print(
        f"farm of {devices} replay devices ({slow} five times slower, {len(broken)} broken), {count} networks of"
        f" {trial_s} s, seed {seed}: {count / took:.0f} networks/s of {ideal:.0f} ideal"
        f" ({100 * count / took / ideal:.0f} %); lost {lost}, measured twice {trials - count}"
    )


def _errors(evaluator: BatchEvaluator, batch: Sequence[Candidate]) -> list[float]:
    found = {result.index: result.error for result in evaluator.evaluate(batch)}
    return [found[index] for index in range(len(batch))]


def _candidates(space: object, count: int, rng: np.random.Generator) -> list[Candidate]:
    levels = [space.levels(group) for group in range(len(space.groups))]  # type: ignore[attr-defined]
    return [
        space.candidate([int(rng.choice(each)) for each in levels])  # type: ignore[attr-defined]
        for _ in range(count)
    ]


def _subjects(count: int) -> list[Subject]:
    runtime = get_runtime("onnxruntime")
    layers = [Layer("linear", ((1, 1 + number),), (1, 8)) for number in range(count)]
    return [Subject(layer.key, runtime.layer(layer)) for layer in layers]


@contextmanager
def _here(judge: ErrorEstimator) -> Iterator[BatchEvaluator]:
    yield OneByOne(ErrorOf(judge))


@contextmanager
def _local(judge: ErrorEstimator, count: int) -> Iterator[BatchEvaluator]:
    with LocalWorkers(ErrorOf(judge), count) as workers:
        yield workers


@contextmanager
def _cluster(judge: ErrorEstimator) -> Iterator[BatchEvaluator]:
    from hwloop.search.cluster import DaskCluster

    with LocalCluster() as cluster, DaskCluster(ErrorOf(judge), cluster.address) as evaluator:
        yield evaluator

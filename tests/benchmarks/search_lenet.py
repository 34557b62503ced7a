"""HAMP, its parts and its rivals on LeNet-5 and MNIST: every evaluation is a real one.

`search-lenet [--seeds 7] [--first 1] [--budget 400] [--folder DIR] [--data DIR] [--journal FILE] [--plot FILE]
[--only NAME,NAME]`

The network is trained for four epochs on 15,600 images, and weights are shared by all candidates after two epochs more
on the same; an error is counted on 2,000 held-out images. Latency is the sum of the layers in the table that ships for
onnxruntime, of which only the unpruned widths were measured: what HAMP needs is a cheap objective, and the same for
everyone. Both trainings are kept in the folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from hwloop.cli.display import Display
from hwloop.datasets import DataConfig, load_images
from hwloop.extraction import ONNXRUNTIME_X86
from hwloop.files import write_atomic
from hwloop.models import build_model, load_weights
from hwloop.predictors import NetworkPredictor
from hwloop.pruning import (
    SHARED_WEIGHTS,
    AdaptationConfig,
    Candidate,
    ErrorEstimator,
    HeldOut,
    Recalibration,
    adapt,
)
from hwloop.search.keep import packed
from hwloop.study.space import open_space
from hwloop.tables import LatencyTable, shipped_folder
from hwloop.training import FitConfig, fit
from tests.benchmarks import contest
from tests.benchmarks.cifar import SHARED

OBJECTIVES = ("error", "latency_ms", "parameters")
LIMIT, VALIDATION = 22_000, 2000  # a fifth is left aside as test images
BASE = FitConfig(epochs=4, learning_rate=0.05, seed=0, device="cpu")
ADAPTATION = AdaptationConfig(FitConfig(2, 0.02, seed=0, device="cpu"))
TABLE = "amd-epyc-shared-vm/onnxruntime-1.parquet"


def main(words: Sequence[str] = ()) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="search-lenet")
    contest.add_options(parser, 7)
    parser.add_argument("--budget", type=int, default=400)
    parser.add_argument("--population", type=int, default=40)
    parser.add_argument("--folder", type=Path, default=Path(".hwloop/search-lenet"), help="of the weights")
    parser.add_argument("--data", type=Path, default=SHARED)
    given = parser.parse_args(words)
    torch.set_num_threads(1)

    @cache
    def course() -> contest.Course:
        return _course(given.data / "mnist", given.folder)

    about = "LeNet-5 on MNIST, real errors of shared weights; the same problem for every seed"
    wanted = contest.Contest("search-lenet", about, OBJECTIVES, lambda _seed: course(), given.budget, given.population)
    contest.hold(wanted, given)


def _course(data: Path, folder: Path) -> contest.Course:
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(width=150)
    images = load_images(DataConfig("parquet", data / "mnist-train.parquet", limit=LIMIT, validation=VALIDATION))
    torch.manual_seed(0)
    module = build_model("lenet5", num_classes=10, in_channels=1)
    path = folder / "base.pt"
    if path.exists():
        load_weights(module, path)
    else:
        fit(module, images.train, config=BASE)
        write_atomic(path, packed(module.state_dict()))
    moves = open_space(module.eval(), (1, 28, 28), ONNXRUNTIME_X86, grain=1)
    shared = adapt(
        moves.surgery,
        moves.space,
        images.train,
        config=ADAPTATION,
        checkpoint=folder / "shared.pt",
        progress=Display(console),
    )
    held = HeldOut(images.validation, limit=VALIDATION)
    estimator = ErrorEstimator(SHARED_WEIGHTS, shared.plan, Recalibration(images.train), held, threads=1)
    tables = shipped_folder()
    assert tables is not None
    costs = NetworkPredictor(moves.scalable, LatencyTable.load(tables / TABLE))

    def errors(candidates: Sequence[Candidate]) -> contest.FloatArray:
        return np.array([estimator.estimate(candidate).error for candidate in candidates])

    base = estimator.estimate(moves.space.base)
    console.print(
        f"{len(moves.space.groups)} widths, {moves.space.size} networks; the unpruned one's error {base.error:.4f},"
        f" the smallest one's {estimator.estimate(moves.space.smallest).error:.4f}"
    )
    return contest.networks(moves.space, OBJECTIVES, costs, errors, base.error)

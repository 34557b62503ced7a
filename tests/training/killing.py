"""Trains a small network in processes that kill themselves at chosen moments; prints what happened as JSON.

A moment is a number of calls and returns of functions after the run's first step (before it, most calls are imports),
counted by `sys.setprofile`: it strikes between any two of them, in the middle of saving too, on every machine. Each run
is a fork of this process, which has imported torch and never trained, so that a run costs no import.

Run as `python killing.py FOLDER KILLS SEED`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from hwloop.datasets import DataConfig, ImageSet, load_images
from hwloop.models import build_model
from hwloop.progress import Silent
from hwloop.training import Checkpoints, FitConfig, fit

RECIPE = FitConfig(epochs=5, batch_size=64, device="cpu", augment=True, mixup=0.2, label_smoothing=0.1)
SHARES = (0.01, 0.1)
"""Of all calls of an undisturbed run, those between the first step of a run and the kill."""


class Counter(Silent):
    """Counts calls and returns from the first step on, and kills this process at one of them."""

    def __init__(self, limit: float, told: Path) -> None:
        self.calls, self.limit, self.told = 0, limit, told

    @contextmanager
    def step(self, description: str, total: int, done: int = 0) -> Iterator[Counter]:
        yield self

    def advance(self, amount: int = 1, note: str = "") -> None:
        sys.setprofile(self)

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        self.calls += 1
        if self.calls >= self.limit:
            sys.setprofile(None)
            self.told.write_text(f"{event} {frame.f_code.co_name}")
            os.kill(os.getpid(), signal.SIGKILL)


def run(train: ImageSet, path: Path, limit: float = float("inf")) -> int:
    """Train in a process of its own, which counts its calls into `path`.calls; return its exit status."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        build_model("resnet8", num_classes=10, in_channels=1, arguments={"widths": [8, 8, 16]}), torch.nn.Dropout(0.1)
    )
    counter = Counter(limit, path.with_suffix(".where"))
    fit(network, train, config=RECIPE, checkpoints=Checkpoints(path, every_s=0.0), progress=counter)
    sys.setprofile(None)
    path.with_suffix(".calls").write_text(str(counter.calls))
    os._exit(0)


def main(folder: Path, kills: int, seed: int) -> None:
    """Run once undisturbed, then killed so many times, then to the end."""
    torch.set_num_threads(1)
    # The first optimiser imports a compiler, which takes a second: once here instead of in every run.
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))]).step()
    train = load_images(DataConfig(limit=500)).train
    whole, killed = folder / "whole.pt", folder / "killed.pt"
    undisturbed = run(train, whole)
    calls = int(whole.with_suffix(".calls").read_text())
    rng = np.random.default_rng(seed)
    ends = []
    for limit in rng.integers(int(SHARES[0] * calls), int(SHARES[1] * calls), kills).tolist():
        status = run(train, killed, limit)
        step = torch.load(killed, weights_only=True)["position"]["step"] if killed.exists() else 0
        ends.append({"status": status, "step": step, "where": killed.with_suffix(".where").read_text()})
    told = {"undisturbed": undisturbed, "calls": calls, "ends": ends, "last": run(train, killed)}
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

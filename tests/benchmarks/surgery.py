"""Surgery per candidate on ResNet-56, beside a plain copy and torch-pruning's own way to the same network."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import numpy as np
import torch
import torch_pruning as tp

from hwloop.models import build_model
from hwloop.pruning import plan_surgery, pruning_space
from tests.benchmarks.timing import milliseconds, spread

CANDIDATES = 40


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - began)


def main() -> None:
    """Print the time per candidate, beside a deep copy of the whole network that is made in turns with it."""
    torch.set_num_threads(1)
    module = build_model("resnet56", num_classes=10, in_channels=3, arguments={"shortcut": "projection"}).eval()
    example = torch.zeros(1, 3, 32, 32)
    space = pruning_space(module, (3, 32, 32), grain=8)
    plan = plan_surgery(module, space)
    rng = np.random.default_rng(0)
    print(f"{len(space.groups)} channel groups, {len(space.blocks)} removable blocks")
    candidates = [space.random(rng) for _ in range(CANDIDATES + 1)]
    for what, chosen in (
        ("widths", [space.candidate(candidate.widths) for candidate in candidates]),
        ("widths and blocks", candidates),
    ):
        copies, slices = [], []
        for candidate in chosen:
            copies.append(_milliseconds(lambda: copy.deepcopy(module)))
            slices.append(_milliseconds(lambda candidate=candidate: plan.apply(candidate)))
        over = [one - other for one, other in zip(slices[1:], copies[1:], strict=True)]
        print(f"{what}: copy", spread(copies[1:]))
        print(f"{what}: surgery", spread(slices[1:]))
        print(f"{what}: surgery over the copy beside it", spread(over))

    def theirs() -> None:
        twin = copy.deepcopy(module)
        pruner = tp.pruner.BasePruner(
            twin,
            example,
            tp.importance.GroupMagnitudeImportance(p=1),
            pruning_ratio=0.5,
            ignored_layers=[twin.linear],
            in_channel_groups={},
            out_channel_groups={},
        )
        pruner.step()

    print("torch-pruning, graph and step per candidate:", spread(milliseconds(theirs, 15)))

"""Surgery per candidate on ResNet-56, beside torch-pruning's own way to the same network."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch_pruning as tp

from hwloop.models import build_model
from hwloop.pruning import plan_surgery, pruning_space
from tests.benchmarks.timing import milliseconds, spread


def main() -> None:
    """Print the time per candidate, both ways, interleaved by torch's one thread."""
    torch.set_num_threads(1)
    module = build_model("resnet56", num_classes=10, in_channels=3, arguments={"shortcut": "projection"}).eval()
    example = torch.zeros(1, 3, 32, 32)
    space = pruning_space(module, (3, 32, 32), grain=8)
    plan = plan_surgery(module, space)
    rng = np.random.default_rng(0)
    candidates = iter([space.random(rng) for _ in range(100)])
    print("plan and slice:", spread(milliseconds(lambda: plan.apply(next(candidates)), 30)))

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

"""Weights are carried through the base network's shape without loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hwloop.models import build_model
from hwloop.pruning import Candidate, Carrier, PruningSpace, pruning_space


def made(name: str) -> tuple[nn.Module, PruningSpace, torch.Tensor]:
    channels, size = (1, 28) if name == "lenet5" else (3, 32)
    torch.manual_seed(0)
    module = build_model(name, num_classes=10, in_channels=channels, image_size=size).eval()
    shape = (channels, size, size)
    images = torch.randn(4, *shape)
    return module, pruning_space(module, shape).without_blocks(), images


@pytest.mark.parametrize("name", ["lenet5", "resnet8"])
def test_a_carried_network_computes_what_it_computed_and_is_cut_from_what_it_learned(name: str) -> None:
    module, space, images = made(name)
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    carrier = Carrier(module, space.groups)
    plan = carrier.plan(carrier.base())
    half = Candidate(tuple(max(2, width // 2) for width in space.base.widths))
    network = plan.apply(half)
    with torch.no_grad():  # stands for training
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    carried = carrier.carry(network, plan, half)
    again = carrier.plan(carried).apply(half)
    assert torch.equal(again(images), network(images))
    thinner = Candidate(tuple(width // 2 for width in half.widths))
    kept = carrier.plan(carried).kept(thinner)
    for group in space.groups:
        assert set(kept[group.name]) <= set(carried.kept[group.name])
        (root,) = group.roots
        norms = carried.state[f"{root}.weight"].flatten(1).square().sum(1).numpy()
        left = np.setdiff1d(carried.kept[group.name], kept[group.name])
        assert norms[list(kept[group.name])].min() >= norms[left].max()
    for key, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[key])


def test_a_channel_that_died_is_kept_before_one_that_is_gone() -> None:
    module, space, images = made("lenet5")
    carrier = Carrier(module, space.groups)
    plan = carrier.plan(carrier.base())
    half = Candidate(tuple(width // 2 for width in space.base.widths))
    network = plan.apply(half)
    with torch.no_grad():
        network.get_parameter("conv1.weight").zero_()
    carried = carrier.carry(network, plan, half)
    assert carrier.plan(carried).kept(half) == carried.kept
    assert torch.equal(carrier.plan(carried).apply(half)(images), network(images))

"""The groups of a pruning space describe the network that the layers' arithmetic scales."""

from collections.abc import Callable

import numpy as np
import pytest
from torch import nn

from hwloop.extraction import ONNXRUNTIME_ARM, ONNXRUNTIME_X86, FusionRules, network_from_torch
from hwloop.layers import ScalableNetwork
from hwloop.pruning import PruningSpace, plan_surgery


def _check(
    network: nn.Module, shape: tuple[int, int, int], space: PruningSpace, rules: FusionRules, candidates: int = 3
) -> None:
    plan = plan_surgery(network, space)
    base = network_from_torch(network, shape, rules=rules)
    assert not base.unsupported
    scalable = ScalableNetwork(base, [group.roots for group in space.groups])
    assert tuple(scalable.base_widths) == space.base
    rng = np.random.default_rng(0)
    narrowest = tuple(space.levels(group)[0] for group in range(len(space.groups)))
    chosen = [narrowest, *(space.random(rng) for _ in range(candidates - 1))]
    for widths, parameters in zip(chosen, scalable.parameters(np.array(chosen)), strict=True):
        found = scalable.at(widths)
        expected = network_from_torch(plan.apply(widths), shape, rules=rules)
        assert [node.name for node in found.nodes] == [node.name for node in expected.nodes]
        assert [node.layer for node in found.nodes] == [node.layer for node in expected.nodes]
        assert found.macs == expected.macs
        assert parameters == expected.parameters


@pytest.mark.parametrize(
    "name",
    ["lenet5", "resnet8-pad", "resnet20-projection", "depthwise-concat", "grouped", "squeeze-excite", "vgg16_bn"],
)
def test_scaled_layers_are_those_of_the_sliced_network(make: Callable, space_of: Callable, name: str) -> None:
    # What is fused does not depend on the widths under these rules, so that every width can be compared.
    network, shape = make(name)
    _check(network, shape, space_of(name), ONNXRUNTIME_ARM, candidates=2 if name == "vgg16_bn" else 3)


@pytest.mark.parametrize("name", ["resnet8-pad", "resnet20-projection", "resnet20-pad"])
def test_on_x86_they_are_at_widths_of_whole_blocks(make: Callable, space_of: Callable, name: str) -> None:
    network, shape = make(name)
    _check(network, shape, space_of(name).with_grain(ONNXRUNTIME_X86.block), ONNXRUNTIME_X86)

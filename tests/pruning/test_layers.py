"""The groups of a pruning space describe the network that the layers' arithmetic scales."""

from collections.abc import Callable

import numpy as np
import pytest
from torch import nn

from hwloop.extraction import ONNXRUNTIME_ARM, ONNXRUNTIME_X86, FusionRules, network_from_torch
from hwloop.extraction.blocks import Branch, blocks_from_torch
from hwloop.layers import ScalableNetwork
from hwloop.pruning import PruningSpace, plan_surgery


def _check(
    network: nn.Module, shape: tuple[int, int, int], space: PruningSpace, rules: FusionRules, candidates: int = 3
) -> None:
    plan = plan_surgery(network, space)
    branches = [Branch(block.name, frozenset(block.layers), block.drops_activation) for block in space.blocks]
    made = blocks_from_torch(network, shape, branches, rules=rules)
    assert made.network == network_from_torch(network, shape, rules=rules)
    assert not made.network.unsupported
    groups = [group.roots for group in space.groups]
    scalable = ScalableNetwork(made.network, groups, made.blocks, made.alternatives)
    assert tuple(scalable.base_widths) == space.base.widths
    rng = np.random.default_rng(0)
    narrowest = [space.levels(group)[0] for group in range(len(space.groups))]
    gutted = [False] * len(space.blocks)
    chosen = [space.candidate(narrowest), space.candidate(space.base.widths, gutted)]
    chosen += [space.random(rng) for _ in range(candidates - 1)]
    widths, remains = space.arrays(chosen)
    macs, parameters = scalable.macs(widths, remains), scalable.parameters(widths, remains)
    peaks = scalable.peak_activation_bytes(widths, remains)
    for row, candidate in enumerate(chosen):
        found = scalable.at(candidate.widths, space.remains(candidate))
        expected = network_from_torch(plan.apply(candidate), shape, rules=rules)
        assert [node.layer for node in found.nodes] == [node.layer for node in expected.nodes]
        assert [node.inputs for node in found.nodes] == [node.inputs for node in expected.nodes]
        # nodes without weights are named by the exporter, which counts them anew
        weighted = [node.name for node in found.nodes if node.layer.parameters]
        assert weighted == [node.name for node in expected.nodes if node.layer.parameters]
        assert (macs[row], parameters[row], peaks[row]) == (
            expected.macs,
            expected.parameters,
            expected.peak_activation_bytes,
        )


@pytest.mark.parametrize(
    "name",
    [
        *("lenet5", "resnet8-pad", "resnet20-projection", "depthwise-concat", "grouped", "squeeze-excite", "vgg16_bn"),
        *("mobilenet_v2", "resnet18"),
    ],
)
def test_scaled_layers_are_those_of_the_sliced_network(make: Callable, space_of: Callable, name: str) -> None:
    # What is fused does not depend on the widths under these rules, so that every width can be compared.
    network, shape = make(name)
    _check(network, shape, space_of(name), ONNXRUNTIME_ARM, candidates=2 if name == "vgg16_bn" else 3)


@pytest.mark.parametrize("name", ["resnet8-pad", "resnet20-projection", "resnet20-pad"])
def test_on_x86_they_are_at_widths_of_whole_blocks(make: Callable, space_of: Callable, name: str) -> None:
    network, shape = make(name)
    _check(network, shape, space_of(name).with_grain(ONNXRUNTIME_X86.block), ONNXRUNTIME_X86)

"""Candidates compute with the base's own parameters, and train them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from hwloop.pruning import PruningSpace, SharedWeights, masked, plan_surgery

NAMES = ("resnet8-projection", "resnet20-pad", "depthwise-concat", "grouped", "squeeze-excite", "mixed", "two-heads")


def total(outputs: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    heads = outputs if isinstance(outputs, tuple) else (outputs,)
    return torch.stack([(head.double() ** 2).sum() for head in heads]).sum()


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_of_surgery_and_gradients_those_of_the_masked_network(
    make: Callable, space_of: Callable[[str], PruningSpace], name: str
) -> None:
    module, shape = make(name)
    space = space_of(name)
    plan = plan_surgery(module, space)
    shared = SharedWeights(plan)
    images = torch.randn(4, *shape, generator=torch.Generator().manual_seed(1))
    rng = np.random.default_rng(3)
    for candidate in (space.base, space.smallest, space.random(rng), space.random(rng)):
        module.zero_grad()
        found = shared.network(candidate)(images)
        with torch.no_grad():
            expected = plan.apply(candidate)(images)
        for one, other in zip(*([o] if torch.is_tensor(o) else o for o in (found, expected)), strict=True):
            assert torch.equal(one, other)
        total(found).backward()
        gradients = {key: parameter.grad.clone() for key, parameter in module.named_parameters()}
        module.zero_grad()
        removed = [block for block in space.blocks if block.name in candidate.removed]
        with masked(module, space.groups, plan.kept(candidate), removed):
            total(module(images)).backward()
        for key, parameter in module.named_parameters():
            wanted = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            scale = float(wanted.abs().max()) + 1e-6
            assert torch.allclose(gradients[key], wanted, atol=1e-4 * scale), key


def test_candidates_follow_the_weights_as_they_change(make: Callable, space_of: Callable[[str], PruningSpace]) -> None:
    module, shape = make("resnet8-projection")
    space = space_of("resnet8-projection")
    plan = plan_surgery(module, space)
    forward = SharedWeights(plan).network(space.smallest)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.1)
        images = torch.randn(2, *shape)
        assert torch.equal(forward(images), plan.apply(space.smallest)(images))

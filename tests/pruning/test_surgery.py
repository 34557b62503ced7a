"""Sliced networks equal torch-pruning's surgery bit for bit, and the masked full network."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch
import torch_pruning as tp
from torch import nn

from hwloop.errors import ModelError, UserError
from hwloop.pruning import Candidate, PruningSpace, SurgeryPlan, masked, plan_surgery, pruning_space, rebuild

_NETWORKS = [
    "depthwise-concat",
    "grouped",
    "squeeze-excite",
    "mixed",
    "concat-shortcut",
    "lenet5",
    "resnet8-pad",
    "resnet20-projection",
    "mobilenet_v2",
    "vgg16_bn",
]
_ATTRIBUTES = ("out_channels", "in_channels", "groups", "out_features", "in_features", "num_features", "num_parameters")


def _by_torch_pruning(
    network: nn.Module, shape: Sequence[int], space: PruningSpace, kept: Mapping[str, Sequence[int]]
) -> nn.Module:
    smaller = copy.deepcopy(network)
    graph = tp.DependencyGraph().build_dependency(
        smaller, torch.randn(1, *shape), forward_fn=lambda net, images: net(images), verbose=False
    )
    for group in space.groups:
        root = smaller.get_submodule(group.roots[0])
        pruned = sorted(set(range(group.width)) - set(kept[group.name]))
        if pruned:
            coupled = graph.get_pruning_group(root, graph.get_pruner_of_module(root).prune_out_channels, pruned)
            assert graph.check_pruning_group(coupled)
            coupled.prune()
    return smaller


def _candidates(space: PruningSpace, count: int) -> list[Candidate]:
    rng = np.random.default_rng(0)
    narrowest = space.candidate([space.levels(group)[0] for group in range(len(space.groups))])
    return [narrowest, space.base, *(space.random(rng) for _ in range(count))]


def _assert_same_module(one: nn.Module, other: nn.Module) -> None:
    state, expected = one.state_dict(), other.state_dict()
    assert list(state) == list(expected)
    for key, tensor in state.items():
        assert torch.equal(tensor, expected[key]), key
    for path, module in one.named_modules():
        twin = other.get_submodule(path)
        assert type(module) is type(twin)
        for attribute in _ATTRIBUTES:
            assert getattr(module, attribute, None) == getattr(twin, attribute, None), (path, attribute)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", _NETWORKS)
def test_slicing_equals_torch_prunings_surgery_and_the_masked_network(
    make: Callable, space_of: Callable, name: str
) -> None:
    network, shape = make(name)
    before = copy.deepcopy(network)
    space = space_of(name).without_blocks()  # which torch-pruning does not know
    plan = plan_surgery(network, space)
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    for candidate in _candidates(space, 2 if name == "vgg16_bn" else 5):
        smaller, kept = plan.apply(candidate), plan.kept(candidate)
        assert tuple(len(channels) for channels in kept.values()) == candidate.widths
        _assert_same_module(smaller, _by_torch_pruning(network, shape, space, kept))
        with torch.inference_mode():
            found = smaller(images)
            with masked(network, space.groups, kept):
                expected = network(images)
        scale = max(1.0, float(expected.abs().max()))
        assert torch.allclose(found, expected, rtol=0, atol=1e-5 * scale)
    _assert_same_module(network, before)


def test_the_base_widths_give_an_equal_network_with_its_own_tensors(make: Callable, space_of: Callable) -> None:
    network, _shape = make("resnet8-projection")
    plan = plan_surgery(network, space_of("resnet8-projection"))
    twin = plan.apply(Candidate(tuple(group.width for group in plan.groups)))
    _assert_same_module(twin, network)
    own = {tensor.data_ptr() for tensor in network.state_dict().values()}
    assert not own & {tensor.data_ptr() for tensor in twin.state_dict().values()}
    for parameter in twin.parameters():
        parameter.data.zero_()
    assert network.conv1.weight.detach().abs().sum() > 0


def test_the_channels_with_the_smallest_filters_go_first(make: Callable, space_of: Callable) -> None:
    network, _shape = make("resnet8-projection")
    space = space_of("resnet8-projection")
    kept = plan_surgery(network, space).kept(Candidate(tuple(group.width // 2 for group in space.groups)))
    inner = network.layer2[0].conv1.weight.detach().abs().flatten(1).sum(1)
    assert set(kept["layer2.0.conv1"]) == set(inner.argsort(descending=True)[:16].tolist())
    stage = sum(
        network.get_submodule(root).weight.detach().double().abs().flatten(1).sum(1)
        for root in ("layer2.0.conv2", "layer2.0.shortcut.0")
    )
    assert set(kept["layer2.0.conv2"]) == set(stage.argsort(descending=True)[:16].tolist())


def test_wider_candidates_contain_the_narrower_ones(make: Callable, space_of: Callable) -> None:
    network, _shape = make("grouped")
    plan = plan_surgery(network, space_of("grouped"))
    previous: set[int] = set()
    for width in (4, 8, 12, 16):
        kept = set(plan.kept(Candidate((width, 24, 8)))["stem.0"])
        assert previous < kept
        assert np.bincount([channel // 4 for channel in kept]).tolist() == [width // 4] * 4
        previous = kept


def test_ties_go_by_index() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network[0].weight.data.fill_(1.0)
    space = pruning_space(network, (1, 4, 4))
    assert plan_surgery(network, space).order == {"0": (0, 1, 2, 3)}


def test_a_candidate_is_rebuilt_from_weights_order_and_text(make: Callable, space_of: Callable) -> None:
    network, _shape = make("depthwise-concat")
    space = space_of("depthwise-concat")
    plan = plan_surgery(network, space)
    candidate = space.random(np.random.default_rng(3))
    stored = json.dumps({"space": space.to_record(), "order": plan.order, "text": space.text(candidate)})
    read = json.loads(stored)
    fresh, _ = make("depthwise-concat")
    rebuilt = rebuild(fresh, PruningSpace.from_record(read["space"]), read["order"], read["text"])
    _assert_same_module(rebuilt, plan.apply(candidate))
    with pytest.raises(UserError, match=r"the widths of .* are missing"):
        rebuild(fresh, space, plan.order, "stem.0=4")


def test_modes_flags_and_hooks_are_copied(make: Callable, space_of: Callable) -> None:
    network, shape = make("resnet8-pad")
    space = space_of("resnet8-pad")
    network.train()
    network.bn1.eval()
    network.conv1.weight.requires_grad_(False)
    calls: list[int] = []
    handle = network.linear.register_forward_hook(lambda *_: calls.append(1))
    smaller = plan_surgery(network, space).apply(Candidate((8,) * len(space.groups)))
    assert smaller.training
    assert not smaller.bn1.training
    assert not smaller.conv1.weight.requires_grad
    assert smaller.layer1[0].conv1.weight.requires_grad
    smaller(torch.zeros(2, *shape))
    assert calls == [1]
    handle.remove()
    smaller(torch.zeros(2, *shape))
    assert calls == [1, 1]  # the copy's hook is its own


def test_a_pruned_network_can_be_trained_and_pruned_again(make: Callable, space_of: Callable) -> None:
    network, shape = make("resnet8-projection")
    smaller = plan_surgery(network, space_of("resnet8-projection")).apply(Candidate((8, 8, 16, 16, 32, 32)))
    smaller.train()(torch.randn(4, *shape)).sum().backward()
    assert all(parameter.grad is not None for parameter in smaller.parameters())
    again = pruning_space(smaller, shape)
    assert again.base.widths == (8, 8, 16, 16, 32, 32)
    assert plan_surgery(smaller, again).apply(Candidate((4, 4, 8, 8, 16, 16))).linear.in_features == 16


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ((4, 24), "2 widths were given for 3 channel groups"),
        ((0, 24, 8), r"stem\.0=0: the width must be 1 to 16 in multiples of 4"),
        ((6, 24, 8), "in multiples of 4"),
        ((16, 24, 9), r"last\.0=9: the width must be 1 to 8"),
    ],
)
def test_widths_that_the_network_cannot_have_are_refused(
    make: Callable, space_of: Callable, widths: tuple[int, ...], message: str
) -> None:
    network, _shape = make("grouped")
    plan = plan_surgery(network, space_of("grouped"))
    with pytest.raises(ModelError, match=message):
        plan.apply(Candidate(widths))


def test_a_space_or_order_of_another_network_is_refused(make: Callable, space_of: Callable) -> None:
    network, _shape = make("grouped")
    space = space_of("grouped")
    order = plan_surgery(network, space).order
    with pytest.raises(ModelError, match="not a permutation of its 16 channels"):
        SurgeryPlan(network, space.groups, order | {"stem.0": (0,) * 16})
    with pytest.raises(ModelError, match="4 blocks of its grouped convolution"):
        SurgeryPlan(network, space.groups, order | {"stem.0": tuple(range(16))})
    with pytest.raises(ModelError, match="the pruning space is of another network"):
        SurgeryPlan(make("lenet5")[0], space.groups, order)


def test_weights_that_are_not_finite_cannot_be_ordered(make: Callable, space_of: Callable) -> None:
    network, _shape = make("lenet5")
    space = space_of("lenet5")
    network.conv2.weight.data[3] = float("nan")
    with pytest.raises(ModelError, match="conv2: the criterion did not give 16 finite scores"):
        plan_surgery(network, space)

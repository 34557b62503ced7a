"""The space has the right groups, the right widths and a text for every candidate."""

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwloop.errors import ModelError, UserError
from hwloop.pruning import Candidate, ChannelGroup, PruningSpace, pruning_space


def _summary(space: PruningSpace) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {group.name: (group.width, group.roots) for group in space.groups}


def test_lenet_has_a_group_per_layer_but_the_last(space_of: Callable) -> None:
    space = space_of("lenet5")
    assert space.base == Candidate((6, 16, 120, 84))
    assert [group.name for group in space.groups] == ["conv1", "conv2", "fc1", "fc2"]
    assert [(group.name, group.reason) for group in space.fixed] == [("fc3", "its channels are the network's outputs")]


def test_projection_shortcuts_couple_each_stage(space_of: Callable) -> None:
    space = space_of("resnet20-projection")
    assert len(space.groups) == 12
    found = _summary(space)
    assert found["conv1"] == (16, ("conv1", "layer1.0.conv2", "layer1.1.conv2", "layer1.2.conv2"))
    assert found["layer2.0.conv2"] == (
        32,
        ("layer2.0.conv2", "layer2.0.shortcut.0", "layer2.1.conv2", "layer2.2.conv2"),
    )
    assert found["layer3.2.conv1"] == (64, ("layer3.2.conv1",))


def test_padded_shortcuts_fix_the_stages_with_a_reason_and_leave_the_blocks_inner_widths(space_of: Callable) -> None:
    space = space_of("resnet20-pad")
    assert [group.name for group in space.groups] == [
        f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in (0, 1, 2)
    ]
    fixed = {group.name: group for group in space.fixed}
    assert set(fixed) == {"conv1", "linear"}
    assert "16 of the 32 channels of 'layer2.0.conv2'" in fixed["conv1"].reason
    assert {"conv1", "layer2.0.conv2", "layer3.2.conv2"} <= set(fixed["conv1"].roots)


def test_depthwise_convolutions_follow_and_concatenations_do_not_couple(space_of: Callable) -> None:
    assert _summary(space_of("depthwise-concat")) == {
        "stem.0": (8, ("stem.0",)),
        "pointwise.0": (12, ("pointwise.0",)),
        "side.0": (6, ("side.0",)),
        "join.0": (12, ("join.0",)),
    }


def test_grouped_convolutions_ask_for_multiples(make: Callable) -> None:
    space = pruning_space(*make("grouped"), minimum_fraction=0.0)
    assert {group.name: group.divisor for group in space.groups} == {"stem.0": 4, "grouped.0": 4, "last.0": 1}
    assert space.levels(0) == (4, 8, 12, 16)
    assert space.with_grain(6).levels(1) == (12, 24)


def test_squeeze_and_excitation_couple_the_gate(space_of: Callable) -> None:
    found = _summary(space_of("squeeze-excite"))
    assert found["stem.0"] == (12, ("stem.0", "excite"))
    assert found["squeeze"] == (4, ("squeeze",))


@pytest.mark.parametrize(
    ("name", "fixed", "prunable"),
    [
        ("gated-halves", {"stem.0": "the sliced network", "head": "outputs"}, {"last.0"}),
        (
            "concat-shortcut",
            {"left": "joined to only 5 of the 12", "right": "joined to 'across'", "head": "outputs"},
            {"stem.0", "last.0"},
        ),
        ("fixed-view", {"second.0": "the sliced network fails", "head": "outputs"}, {"first.0"}),
        (
            "mixed",
            {
                "before_norm": "GroupNorm 'norm' reads its channels",
                "computed": "computed from other parameters",
                "tied": "shares a parameter",
                "twin": "shares a parameter",
                "head": "outputs",
            },
            {"stem", "middle", "up", "last"},
        ),
        ("two-heads", {"features.0": "shape of the network's outputs", "head": "outputs"}, {"stem.0"}),
    ],
)
def test_what_cannot_be_sliced_is_fixed_with_its_reason_and_the_rest_stays_prunable(
    space_of: Callable, name: str, fixed: dict[str, str], prunable: set[str]
) -> None:
    space = space_of(name)
    assert {group.name for group in space.groups} == prunable
    reasons = {group.name: group.reason for group in space.fixed}
    assert set(reasons) == set(fixed)
    for group, reason in fixed.items():
        assert reason in reasons[group]


def test_frozen_parameters_change_nothing(make: Callable) -> None:
    network, shape = make("resnet8-projection")
    expected = pruning_space(network, shape)
    network.requires_grad_(False)
    assert pruning_space(network, shape) == expected
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_finding_the_space_leaves_network_and_random_state_alone(make: Callable) -> None:
    network, shape = make("mixed")
    network.train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    pruning_space(network, shape)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


class _Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images).detach().flatten(1)


class _Raising(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        raise ValueError("first line\nsecond line")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (_Detached(), "_Detached: cannot be traced: its outputs do not depend on its parameters"),
        (_Raising(), r"_Raising does not run on images of shape \(3, 8, 8\): ValueError: first line"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten()), r"does not run on images of shape \(3, 8, 8\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), "has no channels that can be pruned: 1: its channels are"),
    ],
)
def test_a_network_that_cannot_be_traced_is_refused_in_one_line(network: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        pruning_space(network, (3, 8, 8))
    assert "\n" not in str(caught.value)


def _space(*widths: int, divisor: int = 1, **settings: float) -> PruningSpace:
    groups = tuple(ChannelGroup(f"g{index}", width, (f"g{index}",), divisor) for index, width in enumerate(widths))
    return PruningSpace(groups, **settings)


@pytest.mark.parametrize(
    ("width", "divisor", "settings", "levels"),
    [
        (16, 1, {"grain": 4}, (4, 8, 12, 16)),
        (18, 1, {"grain": 4}, (4, 8, 12, 16, 18)),
        (6, 1, {"grain": 8}, (6,)),
        (8, 1, {"grain": 8}, (8,)),
        (20, 1, {"grain": 4, "minimum_fraction": 0.5}, (12, 16, 20)),
        (20, 1, {"grain": 4, "minimum": 9}, (12, 16, 20)),
        (24, 6, {"grain": 4}, (12, 24)),
        (5, 1, {"minimum_fraction": 0.0}, (1, 2, 3, 4, 5)),
        (5, 1, {"minimum_fraction": 1.0}, (5,)),
        (1, 1, {}, (1,)),
    ],
)
def test_levels_are_multiples_of_the_grain_and_the_base_width(
    width: int, divisor: int, settings: dict[str, float], levels: tuple[int, ...]
) -> None:
    space = _space(width, divisor=divisor, **settings)
    assert space.levels(0) == levels
    assert space.size == len(levels)


def test_candidates_convert_between_widths_indices_and_text() -> None:
    space = _space(16, 10, 24, grain=4)
    assert space.size == 4 * 3 * 6
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(2000):
        candidate = space.random(rng)
        assert space.contains(candidate)
        assert space.from_indices(space.to_indices(candidate)) == candidate
        assert space.parse(space.text(candidate)) == candidate
        seen.add(candidate)
    assert len(seen) == space.size
    assert space.text(space.base) == "g0=16 g1=10 g2=24"
    assert space.contains(space.base)
    assert space.parse("g2=8   g0=3 g1=10\n") == Candidate((3, 10, 8))
    assert not space.contains(Candidate((3, 10, 8)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("g0=16 g1", "'g1' is not of the form name=width"),
        ("g0=16 g1=-4", "'g1=-4' is not of the form"),
        ("g0=16 g1=4.5", "not of the form"),
        ("g0=16 g9=4", "no channel group is named 'g9'; there are g0, g1"),
        ("g0=16 g1=11", "the width must be 1 to 10"),
        ("g0=16 g1=0", "the width must be 1 to 10"),
        ("g0=16 g0=8 g1=4", "the width of 'g0' is given twice"),
        ("g0=16", "the widths of g1 are missing"),
        ("", "the widths of g0, g1 are missing"),
    ],
)
def test_texts_that_are_no_candidate_are_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _space(16, 10).parse(text)


def test_widths_off_the_grid_have_no_index() -> None:
    with pytest.raises(UserError, match="g0=5 is not on the grid of 4: it can be 4, 8"):
        _space(8, grain=4).to_indices(Candidate((5,)))
    with pytest.raises(IndexError):
        _space(8, grain=4).from_indices((2,))


@pytest.mark.parametrize("settings", [{"grain": 0}, {"minimum_fraction": 1.5}, {"minimum": 0}])
def test_settings_out_of_range_are_named(settings: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(settings))):
        _space(8, **settings)


@pytest.mark.parametrize("name", ["lenet5", "depthwise-concat", "grouped"])
def test_a_space_survives_json(make: Callable, name: str) -> None:
    space = pruning_space(*make(name), grain=2)
    assert PruningSpace.from_record(json.loads(json.dumps(space.to_record()))) == space
    assert math.prod(len(space.levels(group)) for group in range(len(space.groups))) == space.size

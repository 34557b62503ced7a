"""Residual blocks are found in the graph, leave nothing behind, and a network without them is the silenced one."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hwloop.errors import ModelError, UserError
from hwloop.extraction import export_onnx
from hwloop.pruning import (
    Candidate,
    PruningSpace,
    SurgeryPlan,
    fold,
    foldable_pairs,
    masked,
    plan_surgery,
    pruning_space,
    rebuild,
)
from tests.pruning.headed import Headed

SHAPE = (3, 8, 8)


class Inline(Headed):
    """Everything in one forward function; what the first two sums keep can be negative."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.first = nn.Conv2d(8, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 8, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.third = nn.Conv2d(8, 8, 3, padding=1)
        self.fourth = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        stem = self.stem(images)
        maps = self.relu(stem + self.second(torch.relu(self.first(stem))))
        maps = functional.relu(self.third(maps) + maps, inplace=True)
        maps = maps + torch.tanh(self.fourth(maps))
        return self.classify(maps)


class PreActivation(nn.Module):
    """He et al. 2016b: the sum is the last thing that a block does; the shortcut reads the activated maps."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, maps: Tensor) -> Tensor:
        active = torch.relu(self.norm(maps))
        kept = maps if self.shortcut is None else self.shortcut(active)
        joined: Tensor = kept + self.conv2(torch.relu(self.conv1(active)))
        return joined


class PreActivated(Headed):
    def __init__(self) -> None:
        super().__init__(10)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.one = PreActivation(8, 8)
        self.two = PreActivation(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(torch.relu(self.two(self.one(self.stem(images)))))


class Odd(Headed):
    """Sums that are no removable blocks: two equal branches, a branch read twice, shared weights, functional ends."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.left = nn.Conv2d(8, 8, 3, padding=1)
        self.right = nn.Conv2d(8, 8, 1)
        self.read = nn.Conv2d(8, 8, 3, padding=1)
        self.shared = nn.Conv2d(8, 8, 3, padding=1)
        self.ends = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        maps = torch.relu(self.stem(images))
        maps = self.left(maps) + self.right(maps)
        branch = self.read(maps)
        maps = (maps + branch) * torch.sigmoid(branch)
        maps = maps + self.shared(self.shared(maps))
        return self.classify(maps + torch.exp(self.ends(maps)))


class Branching(Headed):
    """Control flow that depends on the images cannot be traced symbolically."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.more = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        maps = torch.relu(self.stem(images))
        if float(maps.sum()) > -1:
            maps = maps + self.more(maps)
        return self.classify(maps)


def _network(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(3)
    return kind().eval()


def _assert_removed(network: nn.Module, shape: tuple[int, int, int], space: PruningSpace, candidate: Candidate) -> None:
    """Masked equals pruned, in torch and in onnxruntime; nothing of a removed branch is left."""
    plan = plan_surgery(network, space)
    before = copy.deepcopy(network.state_dict())
    smaller = plan.apply(candidate)
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    given = images.clone()
    removed = [block for block in space.blocks if block.name in candidate.removed]
    with torch.inference_mode():
        found = smaller(images)
        with masked(network, space.groups, plan.kept(candidate), removed):
            expected = network(images)
    assert torch.equal(images, given)
    scale = max(1.0, float(expected.abs().max()))
    assert torch.allclose(found, expected, rtol=0, atol=1e-5 * scale)
    gone = {path for block in removed for path in block.branch}
    assert not gone & {name.rpartition(".")[0] for name in smaller.state_dict()}
    exported = export_onnx(smaller, shape, fold=False)
    proto = onnx.load_from_string(exported)
    weights = {tensor.name.rpartition(".")[0] for tensor in proto.graph.initializer}
    assert not gone & weights
    scopes = {f"/{path.replace('.', '/')}/" for path in gone}
    assert not [node.name for node in proto.graph.node if any(scope in f"{node.name}/" for scope in scopes)]
    session = onnxruntime.InferenceSession(exported)
    (run,) = session.run(None, {"input": images.numpy()})
    assert np.abs(run - found.numpy()).max() <= 1e-4 * scale
    smaller.train()(images).sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def _each_and_all(space: PruningSpace) -> list[Candidate]:
    rng = np.random.default_rng(0)
    flags = [[block.name != other.name for other in space.blocks] for block in space.blocks]
    every = [False] * len(space.blocks)
    return [*(space.candidate(space.base.widths, each) for each in (*flags, every)), space.random(rng)]


def test_identity_blocks_go_whole_and_shortcuts_with_work_remain(make: Callable, space_of: Callable) -> None:
    names = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in (0, 1, 2)]
    for name, kept in (("resnet20-pad", []), ("resnet20-projection", ["layer2.0.shortcut.0.weight"])):
        space = space_of(name)
        assert [block.name for block in space.blocks] == names
        assert space.fixed_blocks == ()
        smaller = plan_surgery(make(name)[0], space).apply(space.candidate(space.base.widths, [False] * 9))
        assert isinstance(smaller.layer1[1], nn.Identity)
        assert [key for key in smaller.state_dict() if key.startswith("layer2") and "0.weight" in key] == kept


@pytest.mark.parametrize("name", ["resnet8-pad", "resnet8-projection", "mobilenet_v2", "resnet18"])
def test_a_network_without_blocks_is_the_silenced_one(make: Callable, space_of: Callable, name: str) -> None:
    network, shape = make(name)
    space = space_of(name)
    assert len(space.blocks) >= 3
    some = _each_and_all(space)
    for candidate in some if name.startswith("resnet8") else some[-2:]:
        _assert_removed(network, shape, space, candidate)


@pytest.mark.parametrize(
    ("kind", "names"),
    [(Inline, ["first", "third", "fourth"]), (PreActivated, ["one", "two"])],
)
def test_blocks_are_found_in_the_graph_whatever_the_modules_are(kind: type[nn.Module], names: list[str]) -> None:
    network = _network(kind)
    space = pruning_space(network, SHAPE)
    assert [block.name for block in space.blocks] == names
    assert space.fixed_blocks == ()
    for candidate in _each_and_all(space):
        _assert_removed(network, SHAPE, space, candidate)


def test_an_activation_stays_where_what_it_reads_can_be_negative() -> None:
    space = pruning_space(_network(Inline), SHAPE)
    assert [block.drops_activation for block in space.blocks] == [False, True, False]


def test_sums_that_are_no_blocks_are_passed_over_or_fixed_by_name() -> None:
    space = pruning_space(_network(Odd), SHAPE)
    assert space.blocks == ()
    reasons = {block.name: block.reason for block in space.fixed_blocks}
    assert set(reasons) == {"read", "shared", "ends"}
    assert "read elsewhere" in reasons["read"]
    assert "'shared' of its branch is used elsewhere" in reasons["shared"]
    assert "a layer that can be silenced" in reasons["ends"]


def test_a_network_that_cannot_be_traced_has_its_widths_and_the_reason() -> None:
    space = pruning_space(_network(Branching), SHAPE)
    assert [group.name for group in space.groups] == ["stem"]
    assert space.blocks == ()
    (fixed,) = space.fixed_blocks
    assert fixed.name == "Branching"
    assert "torch.fx cannot trace" in fixed.reason


def test_a_width_that_is_lost_with_its_block_is_not_written_and_one_network_is_one_candidate(
    space_of: Callable,
) -> None:
    space = space_of("resnet8-projection")
    base = space.base.widths
    candidate = space.candidate((8, 3, *base[2:]), [False, True, True])
    assert candidate == space.candidate((8, 5, *base[2:]), [False, True, True])
    assert candidate.widths == (8, *base[1:])
    text = space.text(candidate)
    assert text == ("conv1=8 layer2.0.conv1=32 layer2.0.conv2=32 layer3.0.conv1=64 layer3.0.conv2=64 -layer1.0")
    assert space.parse(text) == space.parse(f"layer1.0.conv1=3 {text}") == candidate
    assert space.contains(candidate)
    assert not space.contains(Candidate((8, 3, *base[2:]), ("layer1.0",)))
    assert not space.contains(Candidate(base, ("nobody",)))


def test_texts_arrays_and_indices_of_blocks(space_of: Callable) -> None:
    space = space_of("resnet8-projection").with_grain(8)
    rng = np.random.default_rng(0)
    seen = [space.random(rng) for _ in range(300)]
    assert {candidate.removed for candidate in seen} == {
        tuple(name for name, gone in zip(("layer1.0", "layer2.0", "layer3.0"), flags, strict=True) if gone)
        for flags in np.ndindex(2, 2, 2)
    }
    for candidate in seen:
        assert space.contains(candidate)
        assert space.parse(space.text(candidate)) == candidate
        assert space.from_indices(space.to_indices(candidate)) == candidate
    widths, remains = space.arrays(seen)
    assert (widths.shape, remains.shape, remains.dtype) == ((300, 6), (300, 3), np.bool_)
    assert space.candidate(widths[7], remains[7]) == seen[7]
    assert space.size == 2 * 2 * 4 * 4 * 8 * 8 * 2**3
    assert space.without_blocks().size == space.size // 8
    assert PruningSpace.from_record(json.loads(json.dumps(space.to_record()))) == space


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-layer9", "'-layer9': no removable block is named 'layer9'; there are layer1.0, layer2.0, layer3.0"),
        ("-layer1.0 -layer1.0", "'-layer1.0': the block is removed twice"),
        ("-layer1.0", "the widths of conv1, layer2.0.conv1, .* are missing"),
    ],
)
def test_texts_of_blocks_that_are_no_candidate_are_refused(space_of: Callable, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        space_of("resnet8-projection").parse(text)


def test_a_candidate_without_blocks_is_rebuilt_from_weights_order_and_text(make: Callable, space_of: Callable) -> None:
    network, shape = make("resnet8-projection")
    space = space_of("resnet8-projection")
    plan = plan_surgery(network, space)
    candidate = space.candidate([max(1, width // 2) for width in space.base.widths], [True, False, False])
    read = json.loads(json.dumps({"space": space.to_record(), "order": plan.order, "text": space.text(candidate)}))
    fresh, _ = make("resnet8-projection")
    rebuilt = rebuild(fresh, PruningSpace.from_record(read["space"]), read["order"], read["text"])
    images = torch.randn(2, *shape)
    with torch.inference_mode():
        assert torch.equal(rebuilt(images), plan.apply(candidate)(images))


def test_surgery_leaves_the_base_alone_and_shares_nothing_with_it(make: Callable, space_of: Callable) -> None:
    network, _shape = make("resnet8-projection")
    space = space_of("resnet8-projection")
    network.train()
    plan = plan_surgery(network, space)
    smaller = plan.apply(space.candidate(space.base.widths, [False, False, True]))
    assert all(module.training for module in smaller.modules())
    own = {tensor.data_ptr() for tensor in network.state_dict().values()}
    assert not own & {tensor.data_ptr() for tensor in smaller.state_dict().values()}
    again = plan.apply(space.candidate(space.base.widths, [False, True, True]))
    smaller.layer2[0].shortcut[0].weight.data.zero_()
    assert float(again.layer2[0].shortcut[0].weight.detach().abs().sum()) > 0
    network.eval()
    assert not any(module.training for module in plan.apply(Candidate(space.base.widths, ("layer2.0",))).modules())


def test_normalisations_of_what_remains_are_folded(make: Callable, space_of: Callable) -> None:
    network, shape = make("resnet8-projection")
    space = space_of("resnet8-projection")
    smaller = plan_surgery(network, space).apply(space.candidate(space.base.widths, [False, False, True]))
    pairs = foldable_pairs(network, shape)
    images = torch.randn(2, *shape)
    with torch.inference_mode():
        expected = smaller(images)
        fold(smaller, pairs)
        assert not any(isinstance(layer, nn.BatchNorm2d) for layer in smaller.modules())
        assert torch.allclose(smaller(images), expected, atol=1e-5)


def test_blocks_of_another_network_are_refused(make: Callable, space_of: Callable) -> None:
    space = space_of("resnet8-projection")
    network, _ = make("lenet5")
    with pytest.raises(ModelError, match=r"layer1\.0: the pruning space is of another network"):
        SurgeryPlan(network, (), {}, space.blocks)
    plan = plan_surgery(make("resnet8-projection")[0], space)
    with pytest.raises(ModelError, match=r"no removable block is named 'nobody'; there are layer1\.0"):
        plan.apply(Candidate(space.base.widths, ("nobody",)))

"""Random candidates of every CNN of the zoo, and of five awkward ones, against counters that know nothing of hwloop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hwloop.extraction import ONNXRUNTIME_ARM, export_onnx
from hwloop.extraction.blocks import Branch, blocks_from_torch
from hwloop.layers import ScalableNetwork
from hwloop.models import build_model
from hwloop.pruning import PruningSpace, masked, plan_surgery, pruning_space
from tests.pruning.headed import Headed

CANDIDATES = 50
FEW = 4


def _conv(inputs: int, outputs: int, kernel: int = 3, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class DenseConcatenation(Headed):
    """Each layer reads the concatenation of all before it."""

    def __init__(self) -> None:
        super().__init__(8 + 3 * 6)
        self.stem = _conv(3, 8)
        self.layers = nn.ModuleList(_conv(8 + 6 * place, 6) for place in range(3))

    def forward(self, images: Tensor) -> Tensor:
        maps = [self.stem(images)]
        for layer in self.layers:
            maps.append(layer(torch.cat(maps, 1)))
        return self.classify(torch.cat(maps, 1))


class SplitAndShuffle(Headed):
    """ShuffleNet V2's unit: half of the channels pass by, and the halves are interleaved."""

    def __init__(self) -> None:
        super().__init__(12)
        self.stem = _conv(3, 16)
        self.branch = nn.Sequential(_conv(8, 8, 1), _conv(8, 8, groups=8), _conv(8, 8, 1))
        self.last = _conv(16, 12)
        self.inner = _conv(12, 12)

    def forward(self, images: Tensor) -> Tensor:
        kept, worked = self.stem(images).chunk(2, 1)
        maps = torch.cat([kept, self.branch(worked)], 1)
        n, c, h, w = maps.shape
        maps = maps.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.classify(self.inner(self.last(maps)))


class SharedWeights(Headed):
    """One residual block is applied three times."""

    def __init__(self) -> None:
        super().__init__(10)
        self.stem = _conv(3, 8)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
        self.last = _conv(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stem(images)
        for _ in range(3):
            maps = torch.relu(maps + self.block(maps))
        return self.classify(self.last(maps))


class SharedReduction(Headed):
    """Two squeeze-and-excitation gates behind one reduction, inside residual blocks."""

    def __init__(self) -> None:
        super().__init__(12)
        self.stem = _conv(3, 12)
        self.one, self.two = _conv(12, 12), _conv(12, 12)
        self.squeeze = nn.Linear(12, 4)
        self.first_gate, self.second_gate = nn.Linear(4, 12), nn.Linear(4, 12)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stem(images)
        reduced = torch.relu(self.squeeze(maps.mean((2, 3))))
        maps = torch.relu(maps + self.one(maps) * torch.sigmoid(self.first_gate(reduced))[:, :, None, None])
        maps = torch.relu(maps + self.two(maps) * torch.sigmoid(self.second_gate(reduced))[:, :, None, None])
        return self.classify(maps)


class TwoHeads(nn.Module):
    """A residual trunk with a coarse and a fine classifier, the coarse one in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 8)
        self.trunk = nn.Sequential(nn.Conv2d(8, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1))
        self.coarse = nn.Linear(8, 3)
        self.fine_maps = _conv(8, 10)
        self.fine = nn.Linear(10, 7)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.stem(images)
        maps = torch.relu(maps + self.trunk(maps))
        fine = self.fine_maps(maps).mean((2, 3))
        return self.coarse(maps.mean((2, 3))), self.fine(fine)


@dataclass(frozen=True)
class _Case:
    make: Callable[[], nn.Module]
    shape: tuple[int, int, int] = (3, 32, 32)


def _zoo(name: str, size: int = 32, channels: int = 3, **arguments: object) -> _Case:
    return _Case(
        lambda: build_model(name, num_classes=10, in_channels=channels, image_size=size, arguments=arguments),
        (channels, size, size),
    )


_AWKWARD = {
    "dense-concatenation": _Case(DenseConcatenation, (3, 8, 8)),
    "split-and-shuffle": _Case(SplitAndShuffle, (3, 8, 8)),
    "shared-weights": _Case(SharedWeights, (3, 8, 8)),
    "shared-reduction": _Case(SharedReduction, (3, 8, 8)),
    "two-heads": _Case(TwoHeads, (3, 8, 8)),
}
_SMALL = {
    "lenet5": _zoo("lenet5", 28, 1),
    "resnet8": _zoo("resnet8"),
    "resnet20": _zoo("resnet20"),
    "resnet20-projection": _zoo("resnet20", shortcut="projection"),
}
_LARGE = {
    **{f"resnet{depth}": _zoo(f"resnet{depth}") for depth in (32, 44, 56, 110)},
    "resnet56-projection": _zoo("resnet56", shortcut="projection"),
    **{name: _zoo(name) for name in ("vgg16_bn", "resnet18", "resnet50", "mobilenet_v1", "mobilenet_v2")},
    "efficientnet_b0": _zoo("efficientnet_b0", 64),
    "googlenet": _zoo("googlenet"),
}


def _made(case: _Case) -> nn.Module:
    """A network whose maps have the scale of a trained one's: normalised on random images."""
    torch.manual_seed(5)
    network = case.make()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data.uniform_(0.5, 1.5)
            layer.bias.data.uniform_(-0.3, 0.3)
            layer.momentum = None
    with torch.no_grad():
        network.train()(torch.randn(16, *case.shape))
    return network.eval()


def _tensors(found: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    return list(found) if isinstance(found, tuple) else [found]


def _floats_read(graph: onnx.GraphProto) -> int:
    """The constants of an exported network, each as often as it is read: what a module that is used twice counts."""
    read = [name for node in graph.node for name in node.input]
    floats = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    return sum(int(np.prod(tensor.dims)) * read.count(tensor.name) for tensor in floats)


def _check(case: _Case, count: int) -> PruningSpace:
    network = _made(case)
    space = pruning_space(network, case.shape)
    plan = plan_surgery(network, space)
    branches = [Branch(block.name, frozenset(block.layers), block.drops_activation) for block in space.blocks]
    layers = blocks_from_torch(network, case.shape, branches, rules=ONNXRUNTIME_ARM)
    roots = [group.roots for group in space.groups]
    scalable = ScalableNetwork(layers.network, roots, layers.blocks, layers.alternatives)
    rng = np.random.default_rng(0)
    candidates = [space.random(rng) for _ in range(count)]
    macs, parameters = (figure(*space.arrays(candidates)) for figure in (scalable.macs, scalable.parameters))
    images = torch.randn(2, *case.shape, generator=torch.Generator().manual_seed(1))
    for row, candidate in enumerate(candidates):
        smaller = plan.apply(candidate)
        removed = [block for block in space.blocks if block.name in candidate.removed]
        with torch.inference_mode():
            found = _tensors(smaller(images))
            with masked(network, space.groups, plan.kept(candidate), removed):
                expected = _tensors(network(images))
            counter = FlopCounterMode(display=False)
            with counter:
                smaller(images[:1])
        for one, other in zip(found, expected, strict=True):
            assert float((one - other).abs().max()) <= 1e-5 * max(1.0, float(other.abs().max())), space.text(candidate)
        exported = export_onnx(smaller, case.shape, fold=True)
        session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
        for one, other in zip(session.run(None, {"input": images.numpy()}), found, strict=True):
            assert np.abs(one - other.numpy()).max() <= 1e-4 * max(1.0, float(other.abs().max()))
        assert macs[row] == counter.get_total_flops() // 2
        assert parameters[row] == _floats_read(onnx.load_from_string(exported).graph)
    return space


@pytest.mark.parametrize("name", _SMALL)
def test_a_few_candidates_of_small_networks(name: str) -> None:
    _check(_SMALL[name], FEW)


@pytest.mark.parametrize(
    ("name", "groups", "blocks", "fixed"),
    [
        ("dense-concatenation", {"stem.0", "layers.0.0", "layers.1.0", "layers.2.0"}, (), {"head"}),
        ("split-and-shuffle", {"last.0", "inner.0"}, (), {"stem.0", "branch.2.0", "head"}),
        ("shared-weights", {"last.0"}, (), None),
        ("shared-reduction", {"stem.0", "squeeze"}, ("one.0", "two.0"), {"head"}),
        ("two-heads", {"stem.0", "trunk.0", "fine_maps.0"}, ("trunk.0",), {"coarse", "fine"}),
    ],
)
def test_awkward_networks_are_pruned_as_far_as_they_can_be(
    name: str, groups: set[str], blocks: tuple[str, ...], fixed: set[str] | None
) -> None:
    space = _check(_AWKWARD[name], CANDIDATES)
    assert {group.name for group in space.groups} >= groups
    assert tuple(block.name for block in space.blocks) == blocks
    if fixed is not None:
        assert {root for group in space.fixed for root in group.roots} >= fixed
    assert all(each.reason for each in (*space.fixed, *space.fixed_blocks))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*_SMALL, *_LARGE])
def test_fifty_candidates_of_every_network_of_the_zoo(name: str) -> None:
    _check({**_SMALL, **_LARGE}[name], CANDIDATES)

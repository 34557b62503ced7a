"""Small networks with awkward structure, each with its input shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from hwloop.models import build_model
from hwloop.pruning import PruningSpace, pruning_space
from tests.pruning.headed import Headed

Made = tuple[nn.Module, tuple[int, int, int]]


def _conv(inputs: int, outputs: int, kernel: int = 3, **settings: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **settings),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class DepthwiseConcat(Headed):
    """A depthwise separable branch and a plain one, concatenated twice."""

    def __init__(self) -> None:
        super().__init__(12)
        self.stem = _conv(3, 8)
        self.depthwise = _conv(8, 8, groups=8)
        self.pointwise = _conv(8, 12, 1)
        self.side = _conv(8, 6)
        self.norm = nn.BatchNorm2d(18)
        self.join = _conv(18, 12)

    def forward(self, images: Tensor) -> Tensor:
        stem = self.stem(images)
        both = torch.cat([self.pointwise(self.depthwise(stem)), self.side(stem)], 1)
        return self.classify(self.join(torch.relu(self.norm(both))))


class Grouped(Headed):
    """A convolution with four groups between two plain ones."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem = _conv(3, 16)
        self.grouped = _conv(16, 24, groups=4)
        self.last = _conv(24, 8)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.last(self.grouped(self.stem(images))))


class SqueezeExcite(Headed):
    """Channel attention: a gate computed from the means of the maps it multiplies."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem = _conv(3, 12)
        self.squeeze = nn.Conv2d(12, 4, 1)
        self.excite = nn.Conv2d(4, 12, 1)
        self.last = _conv(12, 6)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stem(images)
        gate = self.excite(torch.relu(self.squeeze(functional.adaptive_avg_pool2d(maps, 1))))
        return self.classify(self.last(maps * torch.sigmoid(gate)))


class GatedHalves(Headed):
    """One half of a convolution's channels gates the other: channels are coupled within one layer."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem = _conv(3, 16)
        self.last = _conv(8, 6)

    def forward(self, images: Tensor) -> Tensor:
        value, gate = self.stem(images).chunk(2, 1)
        return self.classify(self.last(value * torch.sigmoid(gate)))


class ConcatShortcut(Headed):
    """A shortcut over the concatenation of two layers: it couples part of one layer to all of another."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem = _conv(3, 8)
        self.left = nn.Conv2d(8, 5, 3, padding=1)
        self.right = nn.Conv2d(8, 7, 3, padding=1)
        self.across = nn.Conv2d(8, 12, 1)
        self.last = _conv(12, 6)

    def forward(self, images: Tensor) -> Tensor:
        stem = self.stem(images)
        return self.classify(self.last(torch.cat([self.left(stem), self.right(stem)], 1) + self.across(stem)))


class FixedView(nn.Module):
    """A reshape whose numbers are written in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.first = _conv(3, 8)
        self.second = _conv(8, 6)
        self.head = nn.Linear(6 * 8 * 8, 5)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.second(self.first(images)).view(-1, 6 * 8 * 8))
        return logits


class Mixed(Headed):
    """PReLU, a scale that belongs to no layer, a transposed convolution, layer norm, tied and computed weights."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.prelu = nn.PReLU(8)
        self.scale = nn.Parameter(torch.full((10, 1, 1), 1e-6))
        self.middle = nn.Conv2d(8, 10, 3, padding=1)
        self.up = nn.ConvTranspose2d(10, 7, 2, stride=2)
        self.before_norm = nn.Conv2d(7, 9, 3, padding=1)
        self.norm = nn.GroupNorm(3, 9)
        self.computed = weight_norm(nn.Conv2d(9, 8, 3, padding=1))
        self.tied = nn.Conv2d(8, 8, 3, padding=1)
        self.twin = nn.Conv2d(8, 8, 3, padding=1)
        self.twin.weight = self.tied.weight
        self.last = nn.Conv2d(8, 6, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.scale * self.middle(self.prelu(self.stem(images)))
        maps = self.norm(self.before_norm(torch.relu(self.up(maps))))
        maps = torch.relu(self.tied(torch.relu(self.computed(maps))))
        return self.classify(self.last(torch.relu(self.twin(maps))))


class TwoHeads(Headed):
    """Gives logits and the features that they are computed from."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem = _conv(3, 8)
        self.features = _conv(8, 6)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.features(self.stem(images))
        return self.classify(maps), maps


def _mobilenet() -> nn.Module:
    return build_model("mobilenet_v2", num_classes=10, in_channels=3, image_size=32, arguments={"width": 0.25})


def _resnet(depth: int, shortcut: str) -> Made:
    network = build_model(f"resnet{depth}", num_classes=10, in_channels=3, arguments={"shortcut": shortcut})
    return network, (3, 16, 16)


_MADE: dict[str, Callable[[], Made]] = {
    "depthwise-concat": lambda: (DepthwiseConcat(), (3, 8, 8)),
    "grouped": lambda: (Grouped(), (3, 8, 8)),
    "squeeze-excite": lambda: (SqueezeExcite(), (3, 8, 8)),
    "gated-halves": lambda: (GatedHalves(), (3, 8, 8)),
    "concat-shortcut": lambda: (ConcatShortcut(), (3, 8, 8)),
    "fixed-view": lambda: (FixedView(), (3, 8, 8)),
    "mixed": lambda: (Mixed(), (3, 8, 8)),
    "two-heads": lambda: (TwoHeads(), (3, 8, 8)),
    "lenet5": lambda: (build_model("lenet5", num_classes=10, in_channels=1, image_size=28), (1, 28, 28)),
    "resnet8-pad": lambda: _resnet(8, "pad"),
    "resnet8-projection": lambda: _resnet(8, "projection"),
    "resnet20-pad": lambda: _resnet(20, "pad"),
    "resnet20-projection": lambda: _resnet(20, "projection"),
    "resnet56-projection": lambda: _resnet(56, "projection"),
    "mobilenet_v2": lambda: (_mobilenet(), (3, 32, 32)),
    "resnet18": lambda: (build_model("resnet18", num_classes=10, in_channels=3, image_size=32), (3, 32, 32)),
    "vgg16_bn": lambda: (build_model("vgg16_bn", num_classes=10, in_channels=3, image_size=64), (3, 64, 64)),
}


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """With other work on the machine, two threads wait for each other many times longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def space_of(make: Callable[[str], Made]) -> Callable[[str], PruningSpace]:
    """A function from a name to the network's pruning space, found once."""
    known: dict[str, PruningSpace] = {}

    def found(name: str) -> PruningSpace:
        if name not in known:
            known[name] = pruning_space(*make(name))
        return known[name]

    return found


@pytest.fixture(scope="session")
def make() -> Callable[[str], Made]:
    """A function from a name to a network with random, normalised weights, and its input shape."""

    def made(name: str) -> Made:
        torch.manual_seed(7)
        network, shape = _MADE[name]()
        generator = torch.Generator().manual_seed(7)
        for layer in network.modules():  # statistics and scales of a trained network, not of a new one
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.data.uniform_(0.5, 1.5, generator=generator)
                layer.bias.data.uniform_(-0.3, 0.3, generator=generator)
                layer.running_mean.uniform_(-0.2, 0.2, generator=generator)
                layer.running_var.uniform_(0.5, 2.0, generator=generator)
        return network.eval(), shape

    return made

"""Residual networks for small images (He et al. 2016, "Deep residual learning", section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from hwloop.errors import ModelError
from hwloop.models.registry import register_model

Shortcut = Literal["pad", "projection"]


class PadShortcut(nn.Module):
    """Option A of the paper: every second pixel, the missing channels filled with zeros on both sides."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        missing = out_channels - in_channels
        self.stride = stride
        self.before = missing // 2
        self.after = missing - missing // 2

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, out_channels, ceil(h / stride), ceil(w / stride))."""
        kept = maps[:, :, :: self.stride, :: self.stride]
        return functional.pad(kept, (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation around a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = (
                PadShortcut(in_channels, out_channels, stride)
                if shortcut == "pad"
                else nn.Sequential(
                    nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                    nn.BatchNorm2d(out_channels),
                )
            )
        self.relu = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, out_channels, h / stride, w / stride)."""
        inner = self.relu(self.bn1(self.conv1(maps)))
        joined: Tensor = self.relu(self.bn2(self.conv2(inner)) + self.shortcut(maps))
        return joined


class CifarResNet(nn.Module):
    """Three stages of basic blocks and a linear classifier over the mean of the last map.

    The names of the parameters are those of akamaster/pytorch_resnet_cifar10, so its published weights load.
    """

    def __init__(
        self,
        blocks: int,
        num_classes: int = 10,
        in_channels: int = 3,
        widths: Sequence[int] = (16, 32, 64),
        shortcut: Shortcut = "pad",
    ) -> None:
        super().__init__()
        if shortcut not in ("pad", "projection"):
            raise ModelError(f"shortcut is {shortcut!r}: it can be 'pad' or 'projection'")
        if len(widths) != 3 or any(not isinstance(width, int) or width < 1 for width in widths):
            raise ModelError(f"widths is {list(widths)}: a residual network has three stages, each a whole number >= 1")
        if shortcut == "pad" and list(widths) != sorted(widths):
            raise ModelError(f"widths is {list(widths)}: padded shortcuts need widths that never shrink")
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = _stage(widths[0], widths[0], blocks, 1, shortcut)
        self.layer2 = _stage(widths[0], widths[1], blocks, 2, shortcut)
        self.layer3 = _stage(widths[1], widths[2], blocks, 2, shortcut)
        self.linear = nn.Linear(widths[2], num_classes)
        self.relu = nn.ReLU()
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, c, h, w) to logits (n, num_classes)."""
        maps = self.relu(self.bn1(self.conv1(images)))
        maps = self.layer3(self.layer2(self.layer1(maps)))
        logits: Tensor = self.linear(functional.adaptive_avg_pool2d(maps, 1).flatten(1))
        return logits


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int, shortcut: Shortcut) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride, shortcut)
    rest = [BasicBlock(out_channels, out_channels, 1, shortcut) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


def _network(depth: int, num_classes: int, in_channels: int, widths: Sequence[int], shortcut: Shortcut) -> CifarResNet:
    return CifarResNet((depth - 2) // 6, num_classes, in_channels, widths, shortcut)


@register_model
def resnet8(
    num_classes: int = 10,
    in_channels: int = 3,
    widths: Sequence[int] = (16, 32, 64),
    shortcut: Shortcut = "pad",
) -> CifarResNet:
    """Build a residual network of 8 layers: one block a stage, for data sets of a toy's size."""
    return _network(8, num_classes, in_channels, widths, shortcut)


@register_model
def resnet20(
    num_classes: int = 10,
    in_channels: int = 3,
    widths: Sequence[int] = (16, 32, 64),
    shortcut: Shortcut = "pad",
) -> CifarResNet:
    """Build ResNet-20 for CIFAR (0.27 M parameters)."""
    return _network(20, num_classes, in_channels, widths, shortcut)


@register_model
def resnet32(
    num_classes: int = 10,
    in_channels: int = 3,
    widths: Sequence[int] = (16, 32, 64),
    shortcut: Shortcut = "pad",
) -> CifarResNet:
    """Build ResNet-32 for CIFAR (0.46 M parameters)."""
    return _network(32, num_classes, in_channels, widths, shortcut)


@register_model
def resnet44(
    num_classes: int = 10,
    in_channels: int = 3,
    widths: Sequence[int] = (16, 32, 64),
    shortcut: Shortcut = "pad",
) -> CifarResNet:
    """Build ResNet-44 for CIFAR (0.66 M parameters)."""
    return _network(44, num_classes, in_channels, widths, shortcut)


@register_model
def resnet56(
    num_classes: int = 10,
    in_channels: int = 3,
    widths: Sequence[int] = (16, 32, 64),
    shortcut: Shortcut = "pad",
) -> CifarResNet:
    """Build ResNet-56 for CIFAR (0.85 M parameters)."""
    return _network(56, num_classes, in_channels, widths, shortcut)


@register_model
def resnet110(
    num_classes: int = 10,
    in_channels: int = 3,
    widths: Sequence[int] = (16, 32, 64),
    shortcut: Shortcut = "pad",
) -> CifarResNet:
    """Build ResNet-110 for CIFAR (1.73 M parameters)."""
    return _network(110, num_classes, in_channels, widths, shortcut)

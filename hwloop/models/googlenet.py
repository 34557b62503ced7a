"""GoogLeNet: branches that are concatenated (Szegedy et al. 2015, table 1), with batch normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hwloop.models.blocks import IMAGENET, SMALL_IMAGE, check_image_size, initialise
from hwloop.models.registry import register_model

_INCEPTIONS = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}
"""Input channels, then those of: 1x1; reduction and result of the second; of the third; behind the pool."""
_FEATURES = 1024


class BasicConv(nn.Module):
    """A convolution without bias, batch normalisation, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, out_channels, h / stride, w / stride)."""
        return functional.relu(self.bn(self.conv(maps)))


class Inception(nn.Module):
    """Four branches side by side; the third has 3x3 where the paper has 5x5, as in torchvision and TensorFlow."""

    def __init__(
        self, in_channels: int, one: int, reduce3: int, three: int, reduce5: int, five: int, pooled: int
    ) -> None:
        super().__init__()
        self.branch1 = BasicConv(in_channels, one)
        self.branch2 = nn.Sequential(BasicConv(in_channels, reduce3), BasicConv(reduce3, three, 3))
        self.branch3 = nn.Sequential(BasicConv(in_channels, reduce5), BasicConv(reduce5, five, 3))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), BasicConv(in_channels, pooled))

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, one + three + five + pooled, h, w)."""
        return torch.cat([branch(maps) for branch in (self.branch1, self.branch2, self.branch3, self.branch4)], 1)


class GoogLeNet(nn.Module):
    """Nine Inception modules; torchvision's names, without the auxiliary classifiers, which serve training only."""

    def __init__(self, num_classes: int, in_channels: int, image_size: int) -> None:
        super().__init__()
        check_image_size("googlenet", image_size)
        small = image_size <= SMALL_IMAGE
        self.conv1 = BasicConv(in_channels, 64, 3, 1) if small else BasicConv(in_channels, 64, 7, 2)
        self.maxpool1: nn.Module = nn.Identity() if small else nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = BasicConv(64, 64)
        self.conv3 = BasicConv(64, 192, 3)
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.inception3a, self.inception3b = _inceptions("3a", "3b")
        self.maxpool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
        fourth = _inceptions("4a", "4b", "4c", "4d", "4e")
        self.inception4a, self.inception4b, self.inception4c, self.inception4d, self.inception4e = fourth
        self.maxpool4 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.inception5a, self.inception5b = _inceptions("5a", "5b")
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(_FEATURES, num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, c, h, w) to logits (n, num_classes)."""
        maps = self.maxpool2(self.conv3(self.conv2(self.maxpool1(self.conv1(images)))))
        maps = self.maxpool3(self.inception3b(self.inception3a(maps)))
        maps = self.inception4c(self.inception4b(self.inception4a(maps)))
        maps = self.maxpool4(self.inception4e(self.inception4d(maps)))
        maps = self.inception5b(self.inception5a(maps))
        logits: Tensor = self.fc(self.dropout(self.avgpool(maps).flatten(1)))
        return logits


def _inceptions(*names: str) -> list[Inception]:
    return [Inception(*_INCEPTIONS[name]) for name in names]


@register_model(defaults=IMAGENET)
def googlenet(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> GoogLeNet:
    """Build GoogLeNet (6.62 M parameters at 1000 classes); images up to 64 pixels get a 3x3 stem without reduction."""
    return GoogLeNet(num_classes, in_channels, image_size)

"""Residual networks for ImageNet (He et al. 2016, "Deep residual learning", table 1), with torchvision's names."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from hwloop.models.blocks import IMAGENET, SMALL_IMAGE, check_image_size, initialise
from hwloop.models.registry import register_model

_WIDTHS = (64, 128, 256, 512)


class PlainBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _projection(in_channels, width, stride)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, width, h / stride, w / stride)."""
        inner = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(maps)))))
        joined: Tensor = self.relu(inner + (maps if self.downsample is None else self.downsample(maps)))
        return joined


class Bottleneck(nn.Module):
    """A 3x3 convolution between two of 1x1; the stride sits on the 3x3 (ResNet V1.5, as torchvision has it)."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        outer = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outer, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outer)
        self.relu = nn.ReLU()
        self.downsample = _projection(in_channels, outer, stride)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, 4 * width, h / stride, w / stride)."""
        inner = self.relu(self.bn1(self.conv1(maps)))
        inner = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(inner)))))
        joined: Tensor = self.relu(inner + (maps if self.downsample is None else self.downsample(maps)))
        return joined


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class ResNet(nn.Module):
    """Four stages of blocks; images up to 64 pixels get a 3x3 stem without reduction, as is usual on CIFAR."""

    def __init__(
        self,
        block: type[PlainBlock] | type[Bottleneck],
        blocks: Sequence[int],
        num_classes: int,
        in_channels: int,
        image_size: int,
    ) -> None:
        super().__init__()
        check_image_size("a residual network", image_size)
        small = image_size <= SMALL_IMAGE
        self.conv1 = nn.Conv2d(in_channels, 64, 3 if small else 7, 1 if small else 2, 1 if small else 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        channels, stages = 64, []
        for index, (count, width) in enumerate(zip(blocks, _WIDTHS, strict=True)):
            stage: list[nn.Module] = []
            for position in range(count):
                stage.append(block(channels, width, 2 if index and not position else 1))
                channels = width * block.expansion
            stages.append(nn.Sequential(*stage))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, c, h, w) to logits (n, num_classes)."""
        maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        logits: Tensor = self.fc(self.avgpool(maps).flatten(1))
        return logits


@register_model(defaults=IMAGENET)
def resnet18(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> ResNet:
    """Build ResNet-18 (11.69 M parameters at 1000 classes)."""
    return ResNet(PlainBlock, (2, 2, 2, 2), num_classes, in_channels, image_size)


@register_model(defaults=IMAGENET)
def resnet50(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> ResNet:
    """Build ResNet-50 (25.56 M parameters at 1000 classes)."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels, image_size)

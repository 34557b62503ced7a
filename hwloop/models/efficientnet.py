"""EfficientNet-B0: inverted residuals with squeeze and excitation (Tan and Le 2019, table 1)."""

from __future__ import annotations

from torch import Tensor, nn

from hwloop.models.blocks import IMAGENET, SMALL_IMAGE, ConvNorm, SqueezeExcitation, check_image_size, initialise
from hwloop.models.registry import register_model

_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""Expansion, kernel, stride, output channels and repetitions."""
_STEM, _HEAD = 32, 1280


class MBConv(nn.Module):
    """Widen, convolve depthwise, gate the channels, project; the gate's bottleneck is a quarter of the input."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [ConvNorm(in_channels, hidden, activation=nn.SiLU)]
        layers += [
            ConvNorm(hidden, hidden, kernel, stride, hidden, activation=nn.SiLU),
            SqueezeExcitation(hidden, max(1, in_channels // 4)),
            ConvNorm(hidden, out_channels, activation=None),
        ]
        self.block = nn.Sequential(*layers)
        self.added = stride == 1 and in_channels == out_channels

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, out_channels, h / stride, w / stride)."""
        inner: Tensor = self.block(maps)
        return inner + maps if self.added else inner


class EfficientNet(nn.Module):
    """A stem, seven stages and a wide pointwise convolution; torchvision's names. No stochastic depth."""

    def __init__(self, num_classes: int, in_channels: int, image_size: int) -> None:
        super().__init__()
        check_image_size("efficientnet_b0", image_size)
        stem = ConvNorm(in_channels, _STEM, 3, 1 if image_size <= SMALL_IMAGE else 2, activation=nn.SiLU)
        stages: list[nn.Module] = [stem]
        channels = _STEM
        for expansion, kernel, stride, wider, repetitions in _STAGES:
            blocks = []
            for position in range(repetitions):
                blocks.append(MBConv(channels, wider, kernel, 1 if position else stride, expansion))
                channels = wider
            stages.append(nn.Sequential(*blocks))
        stages.append(ConvNorm(channels, _HEAD, activation=nn.SiLU))
        self.features = nn.Sequential(*stages)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(_HEAD, num_classes))
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, c, h, w) to logits (n, num_classes)."""
        logits: Tensor = self.classifier(self.avgpool(self.features(images)).flatten(1))
        return logits


@register_model(defaults=IMAGENET)
def efficientnet_b0(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> EfficientNet:
    """Build EfficientNet-B0 (5.29 M parameters at 1000 classes); images up to 64 pixels keep the stem's size."""
    return EfficientNet(num_classes, in_channels, image_size)

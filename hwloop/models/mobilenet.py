"""MobileNetV1 and V2: depthwise separable convolutions, and inverted residuals."""

from __future__ import annotations

from torch import Tensor, nn

from hwloop.errors import ModelError
from hwloop.models.blocks import IMAGENET, SMALL_IMAGE, ConvNorm, check_image_size, initialise, round_channels
from hwloop.models.registry import register_model

_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
"""Output channels and stride of the separable convolutions (Howard et al. 2017, table 1)."""
_V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, output channels, repetitions and stride of the stages (Sandler et al. 2018, table 2)."""


def _check(name: str, width: float, image_size: int) -> None:
    if width <= 0:
        raise ModelError(f"width is {width}: {name} needs a positive width multiplier, such as 0.5")
    check_image_size(name, image_size)


class MobileNetV1(nn.Module):
    """A stem and thirteen pairs of a depthwise and a pointwise convolution."""

    def __init__(self, num_classes: int, in_channels: int, width: float, image_size: int) -> None:
        super().__init__()
        _check("mobilenet_v1", width, image_size)
        channels = round_channels(32 * width)
        layers: list[nn.Module] = [ConvNorm(in_channels, channels, 3, 1 if image_size <= SMALL_IMAGE else 2)]
        for base, stride in _V1:
            wider = round_channels(base * width)
            layers.append(nn.Sequential(ConvNorm(channels, channels, 3, stride, channels), ConvNorm(channels, wider)))
            channels = wider
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, c, h, w) to logits (n, num_classes)."""
        logits: Tensor = self.classifier(self.pool(self.features(images)).flatten(1))
        return logits


class InvertedResidual(nn.Module):
    """Widen, convolve depthwise, project without activation; the input is added where shapes allow."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [ConvNorm(in_channels, hidden, activation=nn.ReLU6)]
        layers += [
            ConvNorm(hidden, hidden, 3, stride, hidden, activation=nn.ReLU6),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        ]
        self.conv = nn.Sequential(*layers)
        self.added = stride == 1 and in_channels == out_channels

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, out_channels, h / stride, w / stride)."""
        inner: Tensor = self.conv(maps)
        return maps + inner if self.added else inner


class MobileNetV2(nn.Module):
    """A stem, seven stages of inverted residuals, a wide pointwise convolution; torchvision's names."""

    def __init__(self, num_classes: int, in_channels: int, width: float, image_size: int) -> None:
        super().__init__()
        _check("mobilenet_v2", width, image_size)
        channels, last = round_channels(32 * width), round_channels(1280 * max(1.0, width))
        stem = ConvNorm(in_channels, channels, 3, 1 if image_size <= SMALL_IMAGE else 2, activation=nn.ReLU6)
        layers: list[nn.Module] = [stem]
        for expansion, base, repetitions, stride in _V2:
            wider = round_channels(base * width)
            for position in range(repetitions):
                layers.append(InvertedResidual(channels, wider, 1 if position else stride, expansion))
                channels = wider
        layers.append(ConvNorm(channels, last, activation=nn.ReLU6))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, num_classes))
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, c, h, w) to logits (n, num_classes)."""
        logits: Tensor = self.classifier(self.pool(self.features(images)).flatten(1))
        return logits


@register_model(defaults=IMAGENET)
def mobilenet_v1(
    num_classes: int = 1000, in_channels: int = 3, width: float = 1.0, image_size: int = 224
) -> MobileNetV1:
    """Build MobileNetV1 (4.23 M parameters at 1000 classes and width 1); a stem without reduction up to 64 pixels."""
    return MobileNetV1(num_classes, in_channels, width, image_size)


@register_model(defaults=IMAGENET)
def mobilenet_v2(
    num_classes: int = 1000, in_channels: int = 3, width: float = 1.0, image_size: int = 224
) -> MobileNetV2:
    """Build MobileNetV2 (3.50 M parameters at 1000 classes and width 1); a stem without reduction up to 64 pixels."""
    return MobileNetV2(num_classes, in_channels, width, image_size)

"""VGG-16 with batch normalisation, in the form used on CIFAR."""

from __future__ import annotations

from torch import Tensor, nn

from hwloop.errors import ModelError
from hwloop.models.registry import register_model

_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_REDUCTION = 2 ** len(_STAGES)


class VGG16BN(nn.Module):
    """Thirteen 3x3 convolutions with batch normalisation (Simonyan and Zisserman 2015, table 1, column D).

    The paper's three linear layers shrink to one, as is usual on CIFAR: on ten classes they would overfit.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32) -> None:
        super().__init__()
        if image_size < _REDUCTION:
            raise ModelError(
                f"vgg16_bn needs images of at least {_REDUCTION}x{_REDUCTION} pixels, these have "
                f"{image_size}x{image_size}: set image_size = {_REDUCTION} to enlarge them"
            )
        side = image_size // _REDUCTION
        layers: list[nn.Module] = []
        channels = in_channels
        for stage in _STAGES:
            for width in stage:
                layers += [
                    nn.Conv2d(channels, width, 3, padding=1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                ]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels * side * side, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, c, h, w) to logits (n, num_classes)."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


@register_model
def vgg16_bn(num_classes: int = 10, in_channels: int = 3, image_size: int = 32) -> VGG16BN:
    """Build VGG-16-BN for square images of `image_size` pixels (14.7 M parameters on CIFAR-10)."""
    return VGG16BN(num_classes, in_channels, image_size)

"""Parts that several networks of the zoo share."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from hwloop.errors import ModelError
from hwloop.models.registry import ModelDefaults

IMAGENET = ModelDefaults((3, 224, 224), 1000)
"""What the larger networks were published for."""
SMALL_IMAGE = 64
"""Networks made for ImageNet halve a map five times: images up to this size get a stem that keeps theirs."""
SMALLEST_IMAGE = 16

Activation = Callable[[], nn.Module]


def check_image_size(name: str, image_size: int) -> None:
    """Refuse images that a network would reduce to nothing.

    Raises:
        ModelError: the images are smaller than 16x16 pixels.
    """
    if image_size < SMALLEST_IMAGE:
        raise ModelError(
            f"{name} needs images of at least {SMALLEST_IMAGE}x{SMALLEST_IMAGE} pixels, these have "
            f"{image_size}x{image_size}: set image_size = 32 to enlarge them"
        )


def round_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor` that is at least nine tenths of `channels` (Sandler et al. 2018)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


class ConvNorm(nn.Sequential):
    """A convolution without bias, its batch normalisation, and an activation; padded to keep the map."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: Activation | None = nn.ReLU,
        eps: float = 1e-5,
    ) -> None:
        parts: list[nn.Module] = [
            nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(out_channels, eps=eps),
        ]
        if activation is not None:
            parts.append(activation())
        super().__init__(*parts)


class SqueezeExcitation(nn.Module):
    """Scale every channel by a gate computed from the means of all (Hu et al. 2018, section 3)."""

    def __init__(self, channels: int, squeezed: int, activation: Activation = nn.SiLU) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation = activation()
        self.gate = nn.Sigmoid()

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, channels, h, w) to the same shape."""
        gates: Tensor = self.gate(self.fc2(self.activation(self.fc1(self.avgpool(maps)))))
        return gates * maps


def initialise(module: nn.Module) -> None:
    """He's initialisation for convolutions (fan out), small normal values for the classifier."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, 0.0, 0.01)
            nn.init.zeros_(part.bias)

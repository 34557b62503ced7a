"""LeNet-5, in today's usual form (ReLU, max-pooling), and the wider LeNet of Caffe."""

from __future__ import annotations

from torch import Tensor, nn

from hwloop.errors import ModelError
from hwloop.models.registry import ModelDefaults, register_model

_SMALLEST_IMAGE = 12  # two 2x2 poolings around an unpadded 5x5 convolution must leave one pixel


class LeNet5(nn.Module):
    """Two 5x5 convolutions and three linear layers.

    LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II.B. ReLU and
    max-pooling stand for the paper's scaled tanh and trainable subsampling, full connections for its table of
    partial ones. The first convolution is padded by two, as the paper pads its 28x28 images to 32x32.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> None:
        super().__init__()
        if image_size < _SMALLEST_IMAGE:
            raise ModelError(
                f"lenet5 needs images of at least {_SMALLEST_IMAGE}x{_SMALLEST_IMAGE} pixels, these have "
                f"{image_size}x{image_size}: set image_size = 28 to enlarge them"
            )
        side = (image_size // 2 - 4) // 2
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=2)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.pool2 = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(16 * side * side, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)
        self.relu = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, c, h, w) to logits (n, num_classes)."""
        maps = self.pool1(self.relu(self.conv1(images)))
        maps = self.pool2(self.relu(self.conv2(maps)))
        features = self.relu(self.fc1(maps.flatten(1)))
        logits: Tensor = self.fc3(self.relu(self.fc2(features)))
        return logits


@register_model(defaults=ModelDefaults((1, 28, 28), 10))
def lenet5(num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> LeNet5:
    """Build LeNet-5 for square images of `image_size` pixels (61,706 parameters on MNIST)."""
    return LeNet5(num_classes, in_channels, image_size)


_SMALLEST_CAFFE_IMAGE = 16  # as above, with two unpadded convolutions


class LeNetCaffe(nn.Module):
    """The LeNet that Caffe ships (`examples/mnist/lenet.prototxt`): two 5x5 convolutions, two linear layers, one ReLU.

    The "LeNet" and "LeNet-5" of most of the literature on pruning, with seven times the parameters of the original.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> None:
        super().__init__()
        if image_size < _SMALLEST_CAFFE_IMAGE:
            raise ModelError(
                f"lenet_caffe needs images of at least {_SMALLEST_CAFFE_IMAGE}x{_SMALLEST_CAFFE_IMAGE} pixels, these "
                f"have {image_size}x{image_size}: set image_size = 28 to enlarge them"
            )
        side = ((image_size - 4) // 2 - 4) // 2
        self.conv1 = nn.Conv2d(in_channels, 20, 5)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.pool2 = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(50 * side * side, 500)
        self.fc2 = nn.Linear(500, num_classes)
        self.relu = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, c, h, w) to logits (n, num_classes)."""
        maps = self.pool2(self.conv2(self.pool1(self.conv1(images))))
        logits: Tensor = self.fc2(self.relu(self.fc1(maps.flatten(1))))
        return logits


@register_model(defaults=ModelDefaults((1, 28, 28), 10))
def lenet_caffe(num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> LeNetCaffe:
    """Build Caffe's LeNet for square images of `image_size` pixels (431,080 parameters on MNIST)."""
    return LeNetCaffe(num_classes, in_channels, image_size)

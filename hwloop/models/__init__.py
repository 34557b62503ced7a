"""The model zoo: plain torch networks, found by name.

The factories register themselves when their module is imported, which this package does.
"""

from hwloop.models.lenet import LeNet5
from hwloop.models.registry import build_model, list_models, register_model
from hwloop.models.resnet import BasicBlock, CifarResNet, PadShortcut
from hwloop.models.vgg import VGG16BN
from hwloop.models.weights import load_weights

__all__ = [
    "VGG16BN",
    "BasicBlock",
    "CifarResNet",
    "LeNet5",
    "PadShortcut",
    "build_model",
    "list_models",
    "load_weights",
    "register_model",
]

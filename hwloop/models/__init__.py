"""The model zoo: plain torch networks, found by name.

The factories register themselves when their module is imported, which this package does.
"""

from hwloop.models.efficientnet import EfficientNet
from hwloop.models.googlenet import GoogLeNet
from hwloop.models.imagenet_resnet import ResNet
from hwloop.models.lenet import LeNet5
from hwloop.models.mobilenet import MobileNetV1, MobileNetV2
from hwloop.models.registry import ModelDefaults, build_model, list_models, model_defaults, register_model
from hwloop.models.resnet import BasicBlock, CifarResNet, PadShortcut
from hwloop.models.settling import settle
from hwloop.models.vgg import VGG16BN
from hwloop.models.vit import VisionTransformer
from hwloop.models.weights import load_weights

__all__ = [
    "VGG16BN",
    "BasicBlock",
    "CifarResNet",
    "EfficientNet",
    "GoogLeNet",
    "LeNet5",
    "MobileNetV1",
    "MobileNetV2",
    "ModelDefaults",
    "PadShortcut",
    "ResNet",
    "VisionTransformer",
    "build_model",
    "list_models",
    "load_weights",
    "model_defaults",
    "register_model",
    "settle",
]

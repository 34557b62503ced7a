"""The registry finds networks by name and by the user's own factories."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import hwloop
from hwloop.errors import ModelError
from hwloop.models import build_model, list_models, model_defaults, register_model

_PARAMETERS = {
    "lenet5": 61_706,
    "lenet_caffe": 431_080,
    "resnet8": 75_290,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "vgg16_bn": 14_724_042,
    # For ImageNet, as torchvision counts its own (googlenet without auxiliary classifiers), Keras and timm the others.
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "mobilenet_v1": 4_231_976,
    "mobilenet_v2": 3_504_872,
    "efficientnet_b0": 5_288_548,
    "googlenet": 6_624_904,
    "vit_tiny": 5_717_416,
}


@pytest.mark.parametrize("name", list_models())
def test_every_network_has_its_published_size_and_gives_one_logit_per_class(name: str) -> None:
    defaults = model_defaults(name)
    channels, size, _ = defaults.input_shape
    classes = defaults.num_classes
    network = build_model(name, num_classes=classes, in_channels=channels, image_size=size).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == _PARAMETERS[name]
    with torch.inference_mode():
        assert network(torch.zeros(1, channels, size, size)).shape == (1, classes)


@pytest.mark.parametrize("name", list_models())
def test_every_network_takes_other_channels_classes_and_image_sizes(name: str) -> None:
    network = build_model(name, num_classes=7, in_channels=2, image_size=64).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 2, 64, 64)).shape == (1, 7)


def test_a_name_is_registered_once() -> None:
    def resnet20() -> nn.Module:
        return nn.Identity()

    with pytest.raises(ValueError, match="'resnet20' is registered already"):
        register_model(resnet20)


def test_the_width_multiplier_rounds_as_published() -> None:
    """MobileNetV2 at 0.35 has 1.68 M parameters (Sandler et al. 2018, the authors' table of checkpoints)."""
    network = build_model("mobilenet_v2", num_classes=1000, in_channels=3, arguments={"width": 0.35})
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(1.68e6, rel=0.005)


def test_defaults_of_networks_outside_the_zoo() -> None:
    assert model_defaults("mine:network").input_shape == (3, 32, 32)
    with pytest.raises(ModelError, match="no model is named 'resnet19'"):
        model_defaults("resnet19")
    assert not model_defaults("vit_tiny").prunable


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"no model is named 'resnet19': known are efficientnet_b0, .*vgg16_bn"):
        build_model("resnet19", num_classes=10, in_channels=3)


def test_an_argument_that_the_factory_does_not_take_is_named() -> None:
    with pytest.raises(ModelError, match=r"model 'resnet20' takes no argument 'width', only .*shortcut"):
        build_model("resnet20", num_classes=10, in_channels=3, arguments={"width": 2})


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet20", {"shortcut": "none"}, "it can be 'pad' or 'projection'"),
        ("resnet20", {"widths": [16, 32]}, "three stages"),
        ("resnet20", {"widths": [64, 32, 16]}, "never shrink"),
        ("lenet5", {"image_size": 8}, "at least 12x12 pixels"),
        ("lenet_caffe", {"image_size": 15}, "at least 16x16 pixels"),
        ("vgg16_bn", {"image_size": 28}, "set image_size = 32"),
        ("googlenet", {"image_size": 8}, "at least 16x16 pixels"),
        ("mobilenet_v1", {"width": 0}, "positive width multiplier"),
        ("vit_tiny", {"image_size": 33}, "a multiple of patch = 4 pixels, these have 33"),
    ],
)
def test_arguments_that_make_no_network_are_refused_in_one_line(
    name: str, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        build_model(name, num_classes=10, in_channels=3, arguments=arguments)
    assert "\n" not in str(caught.value)


_USERS_MODULE = """
from torch import nn

def tiny(num_classes, in_channels, hidden=4):
    return nn.Sequential(nn.Conv2d(in_channels, hidden, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(hidden, num_classes))

def broken(num_classes):
    raise ZeroDivisionError("first line\\nsecond line")

def no_network():
    return 3

anything = 5
"""


@pytest.fixture
def users_folder(tmp_path: Path) -> Path:
    (tmp_path / "users_networks.py").write_text(_USERS_MODULE)
    return tmp_path


def test_a_factory_of_the_user_is_called_with_what_it_takes(users_folder: Path) -> None:
    network = build_model(
        "users_networks:tiny",
        num_classes=5,
        in_channels=2,
        image_size=8,
        arguments={"hidden": 6},
        folder=users_folder,
    )
    assert network(torch.zeros(1, 2, 8, 8)).shape == (1, 5)
    assert network[0].out_channels == 6


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("users_networks:broken", "cannot be built: ZeroDivisionError: first line"),
        ("users_networks:no_network", "returned int, not an nn.Module"),
        ("users_networks:missing", "has no 'missing'"),
        ("users_networks:anything", "is int, not a function"),
        ("users_networks:", "not of the form 'package.module:factory'"),
        ("no_such_package:factory", "cannot import 'no_such_package'"),
    ],
)
def test_a_factory_that_cannot_be_used_is_refused_in_one_line(users_folder: Path, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        build_model(name, num_classes=5, in_channels=2, folder=users_folder)
    assert "\n" not in str(caught.value)


def test_modules_of_the_same_name_in_two_folders_are_two(tmp_path: Path) -> None:
    """Two studies in one process, each with its own mynet.py and helper beside it."""
    folders = [tmp_path / "first", tmp_path / "second"]
    for size, folder in enumerate(folders, start=1):
        (folder / "parts").mkdir(parents=True)
        (folder / "mynet.py").write_text(
            "from torch import nn\n\ndef net(num_classes):\n    from parts import sizes\n"
            "    return nn.Linear(sizes.HIDDEN, num_classes)\n"
        )
        (folder / "parts" / "sizes.py").write_text(f"HIDDEN = {size}\n")
    built = [build_model("mynet:net", num_classes=3, in_channels=1, folder=folders[at]) for at in (0, 1, 0, 1)]
    assert [network.in_features for network in built] == [1, 2, 1, 2]


def test_modules_that_were_there_before_are_never_taken_away(tmp_path: Path) -> None:
    """A study beside hwloop's own sources, or beside a virtual environment."""
    kept = ("hwloop", "torch", "numpy", "pytest")
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in kept}
    (tmp_path / "anothernet.py").write_text("from torch import nn\n\ndef net():\n    return nn.Identity()\n")
    for folder in (Path(hwloop.__file__).parent.parent, tmp_path):
        name = "anothernet:net" if folder == tmp_path else "hwloop.models.lenet:LeNet5"
        build_model(name, num_classes=3, in_channels=1, folder=folder)
    assert all(sys.modules[name] is module for name, module in before.items())

"""The residual networks are those of the paper."""

import pytest
import torch
from torch import nn

from hwloop.models import PadShortcut, build_model


@pytest.mark.parametrize("depth", [8, 20, 32, 44, 56, 110])
def test_the_depth_counts_the_convolutions_and_the_classifier(depth: int) -> None:
    network = build_model(f"resnet{depth}", num_classes=10, in_channels=3)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth


def test_a_padded_shortcut_keeps_every_second_pixel_and_adds_zero_channels_around() -> None:
    maps = torch.arange(2 * 4 * 4, dtype=torch.float32).reshape(1, 2, 4, 4)
    found = PadShortcut(2, 5, 2)(maps)
    assert found.shape == (1, 5, 2, 2)
    assert torch.equal(found[:, 1:3], maps[:, :, ::2, ::2])
    assert found[:, [0, 3, 4]].abs().sum() == 0


def test_projection_shortcuts_are_convolutions_where_the_shape_changes() -> None:
    network = build_model("resnet20", num_classes=10, in_channels=3, arguments={"shortcut": "projection"})
    projections = [path for path, layer in network.named_modules() if isinstance(layer, nn.Conv2d) and "short" in path]
    assert projections == ["layer2.0.shortcut.0", "layer3.0.shortcut.0"]


def test_widths_set_the_channels_of_the_stages() -> None:
    network = build_model("resnet8", num_classes=10, in_channels=1, arguments={"widths": [8, 12, 24]})
    assert [network.get_submodule(f"layer{stage}.0.conv2").out_channels for stage in (1, 2, 3)] == [8, 12, 24]
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)

"""Untrained networks get statistics that keep their outputs in the range of trained ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hwloop.models import build_model, settle


@pytest.mark.parametrize("name", ["resnet110", "mobilenet_v2"])
def test_a_settled_network_gives_logits_of_a_sane_scale(name: str) -> None:
    torch.manual_seed(0)
    network = build_model(name, num_classes=10, in_channels=3, image_size=32)
    settle(network, (3, 32, 32))
    with torch.inference_mode():
        logits = network.eval()(torch.randn(1, 3, 32, 32))
    assert 1e-2 < float(logits.abs().max()) < 1e3


def test_an_unsettled_deep_network_is_why() -> None:
    torch.manual_seed(0)
    network = build_model("resnet110", num_classes=10, in_channels=3).eval()
    with torch.inference_mode():
        assert float(network(torch.randn(1, 3, 32, 32)).abs().max()) > 1e6


def test_modes_momenta_and_weights_stay_as_they_were() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.3), nn.Dropout(), nn.Flatten()).train()
    network[2].eval()
    weights = {name: value.clone() for name, value in network.named_parameters()}
    settle(network, (3, 8, 8))
    assert [part.training for part in network] == [True, True, False, True]
    assert network[1].momentum == 0.3
    assert all(torch.equal(value, weights[name]) for name, value in network.named_parameters())
    assert float(network[1].running_var.mean()) != 1.0


def test_the_same_seed_gives_the_same_statistics() -> None:
    networks = [nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    for network in networks:
        settle(network, (3, 8, 8), seed=3)
    assert torch.equal(networks[0][1].running_mean, networks[1][1].running_mean)


def test_a_network_without_batch_normalisation_is_left_alone() -> None:
    settle(nn.Flatten(), (3, 8, 8))

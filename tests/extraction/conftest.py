"""Small networks that have every construct which hwloop reads, defined here because torchvision is not needed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import nn


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)
        self.drop = nn.Dropout(0.2)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        return self.fc3(self.drop(torch.tanh(self.fc2(F.relu(self.fc1(x))))))


class Block(nn.Module):
    def __init__(self, inputs, width, outputs, stride, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.missing = outputs - inputs
        self.stride = stride
        self.project = None
        if shortcut.startswith("projection") and (stride != 1 or inputs != outputs):
            self.project = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.first = shortcut == "projection first"

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.project is not None:
            x = self.project(x)
        elif self.missing or self.stride != 1:
            half = self.missing // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.missing - half))
        return F.relu(x + y if self.first else y + x)


class Residual(nn.Module):
    """A CIFAR-style residual network; inner widths differ from outer ones, so that mix-ups show."""

    def __init__(self, shortcut, width=16):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(Block(width, width + 8, width, 1, shortcut))
        self.layer2 = nn.Sequential(
            Block(width, 40, 2 * width, 2, shortcut), Block(2 * width, 24, 2 * width, 1, shortcut)
        )
        self.fc = nn.Linear(2 * width, 10)

    def forward(self, x):
        x = self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x)))))
        x = F.avg_pool2d(x, x.size(3))
        return self.fc(x.view(x.size(0), -1))


class Vgg(nn.Module):
    def __init__(self):
        super().__init__()
        parts, inputs = [], 3
        for width in (16, 32, "pool", 48, "pool", 64, "pool"):
            if width == "pool":
                parts.append(nn.MaxPool2d(2))
                continue
            parts += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            inputs = width
        self.features = nn.Sequential(*parts)
        self.classifier = nn.Sequential(nn.Linear(64 * 4, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 10))

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class Mobile(nn.Module):
    """Depthwise and grouped convolutions, squeeze and excite, relu6, hard-swish, a sum without activation."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        self.expand = nn.Sequential(nn.Conv2d(16, 32, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6())
        self.depth = nn.Sequential(nn.Conv2d(32, 32, 3, 1, 1, groups=32, bias=False), nn.BatchNorm2d(32), nn.ReLU6())
        self.squeeze = nn.Conv2d(32, 8, 1)
        self.excite = nn.Conv2d(8, 32, 1)
        self.project = nn.Sequential(nn.Conv2d(32, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.grouped = nn.Sequential(nn.Conv2d(16, 32, 3, 1, 1, groups=2), nn.SiLU())
        self.multiplied = nn.Conv2d(32, 64, 3, 2, 1, groups=32)
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = self.stem(x)
        y = self.depth(self.expand(x))
        y = y * F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        x = self.project(y) + x
        return self.fc(F.gelu(self.multiplied(self.grouped(x))).mean((2, 3)))


class Inception(nn.Module):
    """Branches that are concatenated, a pool that rounds up, features behind a flatten of a concatenation."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.one = nn.Conv2d(16, 8, 1)
        self.three = nn.Sequential(nn.Conv2d(16, 8, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1))
        self.pooled = nn.Conv2d(16, 8, 1)
        self.after = nn.Conv2d(32, 16, 3, 2)
        self.fc = nn.Linear(16 * 49, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2, ceil_mode=True)
        branches = [self.one(x), self.three(x), self.pooled(F.max_pool2d(x, 3, 1, 1))]
        return self.fc(F.relu(self.after(F.relu(torch.cat(branches, 1)))).flatten(1))


class PreActivation(nn.Module):
    """Batch normalisation in front of convolutions, and one behind a linear layer that has a bias."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(16)
        self.fc1 = nn.Linear(16, 16)
        self.bn3 = nn.BatchNorm1d(16)
        self.fc2 = nn.Linear(16, 16, bias=False)
        self.bn4 = nn.BatchNorm1d(16)
        self.fc3 = nn.Linear(16, 10, bias=False)

    def forward(self, x):
        x = self.conv1(x)
        x = self.conv2(F.relu(self.bn1(x))) + x
        x = F.adaptive_avg_pool2d(F.relu(self.bn2(x)), 1).flatten(1)
        x = F.relu(self.bn3(self.fc1(x)))
        return self.fc3(F.relu(self.bn4(self.fc2(x))))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "lenet": (LeNet, (1, 28, 28)),
    "residual option A": (lambda: Residual("pad"), (3, 32, 32)),
    "residual projection": (lambda: Residual("projection"), (3, 32, 32)),
    "residual projection first": (lambda: Residual("projection first"), (3, 32, 32)),
    "vgg": (Vgg, (3, 16, 16)),
    "mobile": (Mobile, (3, 32, 32)),
    "inception": (Inception, (3, 32, 32)),
    "preactivation": (PreActivation, (3, 16, 16)),
}


@pytest.fixture(params=sorted(NETS))
def net(request):
    """Each small network in turn: its name, the module in training mode, and its input shape."""
    torch.manual_seed(0)
    factory, shape = NETS[request.param]
    return request.param, factory(), shape


@pytest.fixture
def build_net():
    """Builds one of the small networks by name: the module in training mode, and its input shape."""

    def build(name):
        torch.manual_seed(0)
        factory, shape = NETS[name]
        return factory(), shape

    return build

"""CIFAR-10 as JPEG, and the networks that were adapted to it; held out is what these never saw."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hwloop.datasets import DataConfig, ImageData, ImageSet
from hwloop.datasets.images import RawImages
from hwloop.datasets.readers import read_parquet
from hwloop.models import build_model, load_weights
from hwloop.models.resnet import PadShortcut
from hwloop.progress import Silent
from hwloop.training import FitConfig

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SHAPE = (3, 32, 32)

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_ROWS, _HELD_OUT = 50000, 5000  # of the training images; which ones are held out is said by the data's note


def network(name: str, data: Path, weights: Path | None = None) -> nn.Module:
    """Build a network with its adapted weights, or others, in evaluation mode."""
    module = build_model(name, num_classes=10, in_channels=3)
    load_weights(module, weights or data / "weights" / f"{name}-jpeg.pt")
    return module.eval()


def finetune(given: argparse.Namespace, seed: int) -> FitConfig:
    """Return the fine-tune that every network gets: `epochs`, `rate` and `distillation` are options."""
    return FitConfig(
        given.epochs,
        given.rate,
        augment=True,
        flip=True,
        seed=seed,
        threads=1,
        distillation=given.distillation,
        device="cpu",
    )


def images(data: Path, count: int) -> ImageData:
    """Read so many of the training images, the 5,000 held-out ones, and the 10,000 test images."""
    order = torch.randperm(_ROWS, generator=torch.Generator().manual_seed(0)).numpy()
    rows = np.concatenate([order[:_HELD_OUT], order[_HELD_OUT:][:count]])
    files = [data / "cifar10" / f"cifar10-{part}.parquet" for part in ("train", "test")]
    config = DataConfig("parquet", *files)
    train = read_parquet(files[0], config, lambda _: rows, None, Silent())
    test = read_parquet(files[1], config, lambda labels: np.arange(len(labels)), train.classes, Silent())
    return ImageData(
        name="CIFAR-10 as JPEG",
        train=_normalised(train, slice(_HELD_OUT, None)),
        validation=_normalised(train, slice(0, _HELD_OUT)),
        test=_normalised(test, slice(None)),
        classes=train.classes,
        mean=_MEAN,
        std=_STD,
        fingerprint=f"{len(rows) - _HELD_OUT} training images",
    )


def projected(name: str, data: Path, calibration: ImageSet) -> nn.Module:
    """A network whose padded shortcuts are 1x1 convolutions that do the same: then its stages can be made thinner too.

    Their batch normalisations hold the statistics of the images as their own scale and shift, so that they change
    nothing, now and after a recalibration on such images.

    Args:
        name: of the network.
        data: folder with the weights.
        calibration: images to take the statistics from.
    """
    padded = network(name, data)
    made = build_model(name, num_classes=10, in_channels=3, arguments={"shortcut": "projection"})
    state = padded.state_dict()
    maps: dict[str, Tensor] = {}
    for path, module in padded.named_modules():
        if isinstance(module, PadShortcut):
            module.register_forward_hook(lambda _module, _inputs, output, path=path: maps.update({path: output}))
    with torch.inference_mode():
        padded(torch.from_numpy(calibration.images))
    for path, found in maps.items():
        shortcut = made.get_submodule(path)
        pad = padded.get_submodule(path)
        assert isinstance(shortcut, nn.Sequential)
        assert isinstance(pad, PadShortcut)
        weight = torch.zeros_like(shortcut[0].weight)
        channels = weight.shape[1]
        weight[pad.before : pad.before + channels, :, 0, 0] = torch.eye(channels)
        variance, mean = torch.var_mean(found.float(), dim=(0, 2, 3), correction=0)
        state |= {
            f"{path}.0.weight": weight,
            f"{path}.1.weight": (variance + shortcut[1].eps).sqrt(),
            f"{path}.1.bias": mean.clone(),
            f"{path}.1.running_mean": mean.clone(),
            f"{path}.1.running_var": variance,
            f"{path}.1.num_batches_tracked": torch.tensor(0),
        }
    made.load_state_dict(state)
    return made.eval()


def _normalised(raw: RawImages, rows: slice) -> ImageSet:
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (_MEAN, _STD))
    scaled = (raw.images[rows].astype(np.float32) / np.float32(raw.scale) - mean) / std
    return ImageSet(scaled, raw.labels[rows])

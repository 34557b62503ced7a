"""First stage: the data, and the base network that all others are compared with."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from hwloop.datasets import DataConfig, ImageData, load_images
from hwloop.errors import DataError, ModelError
from hwloop.files import write_atomic
from hwloop.models import build_model, load_weights
from hwloop.progress import Progress
from hwloop.study.config import StudyConfig, TrainingSection
from hwloop.study.directory import StudyDirectory
from hwloop.training import FitConfig, accuracy, fit


@dataclass(frozen=True)
class Base:
    """The base network, in eval mode, with its data.

    Attributes:
        module: the network; its parameters are never changed by later stages.
        data: normalised images, split.
        input_shape: of one image, (channels, height, width).
        validation_accuracy: on the split that the search uses, fp32.
        test_accuracy: on the test images, fp32.
    """

    module: nn.Module
    data: ImageData
    input_shape: tuple[int, int, int]
    validation_accuracy: float
    test_accuracy: float


def prepare_base(config: StudyConfig, study: StudyDirectory, folder: Path, progress: Progress) -> Base:
    """Load the data, build the network, and load or train its weights (once per study).

    Args:
        config: the study's settings.
        study: where the weights are kept.
        folder: that paths in the settings are relative to.
        progress: is told about loading and training.

    Raises:
        DataError: data are missing or do not fit the network.
        ModelError: the network cannot be built or its weights do not fit.
    """
    data = load_images(data_config(config, folder))
    channels, height, width = data.train.images.shape[1:]
    with torch.random.fork_rng():
        torch.manual_seed(config.study.seed)  # the initial weights are part of what a seed decides
        module = build_model(
            config.model.name,
            num_classes=len(data.classes),
            in_channels=channels,
            image_size=height if height == width else None,
            arguments=config.model.arguments,
            folder=folder,
        )
    _check_outputs(module, data, config.model.name)
    if study.has("base.json"):
        load_weights(module, study.path("base.pt"))
        known = study.read_json("base.json")
        if known["data"] != data.fingerprint:
            raise DataError(f"the images of {data.name} changed since this study began; restore them or start another")
        progress.say(f"base network: {config.model.name}, taken from the earlier run")
    else:
        if config.model.weights is not None:
            load_weights(module, folder / config.model.weights)
        if config.training.epochs:
            fit(module, data.train, config=fit_config(config.training, config.study.seed), progress=progress)
        elif config.model.weights is None:
            raise ModelError("the base network has neither weights (model.weights) nor training (training.epochs = 0)")
        module.eval()
        buffer = io.BytesIO()
        torch.save(module.state_dict(), buffer)
        write_atomic(study.path("base.pt"), buffer.getvalue())
        known = {
            "data": data.fingerprint,
            "validation_accuracy": accuracy(module, data.validation),
            "test_accuracy": accuracy(module, data.test),
        }
        study.write_json("base.json", known)
    module.eval()
    return Base(module, data, (channels, height, width), known["validation_accuracy"], known["test_accuracy"])


def data_config(config: StudyConfig, folder: Path) -> DataConfig:
    """The data section as the datasets room takes it."""
    section = config.data

    def resolved(path: str | None) -> Path | None:
        return None if path is None else folder / path

    return DataConfig(
        source=section.source,
        train=resolved(section.train),
        test=resolved(section.test),
        image_size=section.image_size,
        validation=section.validation if section.validation < 1 else int(section.validation),
        test_fraction=section.test_fraction,
        mean=None if section.mean is None else tuple(section.mean),
        std=None if section.std is None else tuple(section.std),
        limit=section.limit,
        seed=config.study.seed,
    )


def fit_config(section: TrainingSection, seed: int) -> FitConfig:
    """A training section as the training room takes it."""
    return FitConfig(
        epochs=section.epochs,
        learning_rate=section.learning_rate,
        batch_size=section.batch_size,
        weight_decay=section.weight_decay,
        augment=section.augment,
        flip=section.flip,
        seed=seed,
    )


def _check_outputs(module: nn.Module, data: ImageData, name: str) -> None:
    module.eval()
    try:
        with torch.no_grad():
            output = module(torch.from_numpy(data.train.images[:1]))
    except RuntimeError as error:
        shape = "x".join(str(n) for n in data.train.images.shape[1:])
        raise ModelError(f"{name} does not take images of {shape}: {str(error).splitlines()[0]}") from error
    if not isinstance(output, torch.Tensor) or output.ndim != 2:
        raise ModelError(f"{name} must return one tensor (batch, classes); a classifier is needed")
    if output.shape[1] != len(data.classes):
        raise DataError(
            f"{name} has {output.shape[1]} outputs, but {data.name} has {len(data.classes)} classes;"
            " set model.arguments or choose other data"
        )

"""Training by SGD with a one-cycle schedule."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hwloop.datasets import ImageSet
from hwloop.errors import ConfigError, ModelError
from hwloop.progress import Progress, Silent
from hwloop.training.augmentation import random_crop, random_flip
from hwloop.training.hardware import fast_dtype, torch_threads

_CROP_SHARE = 8  # images are shifted by up to an eighth of their size: 4 pixels of 32, as is usual on CIFAR
_WARMUP_SHARE = 0.25  # of the steps, in which the rate rises


@dataclass(frozen=True)
class FitConfig:
    """How to train.

    Attributes:
        epochs: passes over the training images.
        learning_rate: the peak of the one-cycle schedule (Smith and Topin 2018, "Super-convergence").
        batch_size: images per step.
        weight_decay: L2 penalty on all parameters.
        momentum: Nesterov's.
        augment: shift images at random by up to an eighth of their size.
        flip: mirror images at random left to right; not for digits or letters.
        seed: of the order of images, the augmentation and dropout.
        label_smoothing: share of the target that is spread over all classes.
        fast: multiply in bfloat16 where the processor has it in hardware (see `fast_dtype`).
        threads: of torch while training; None leaves the number as it is.
    """

    epochs: int = 10
    learning_rate: float = 0.05
    batch_size: int = 128
    weight_decay: float = 5e-4
    momentum: float = 0.9
    augment: bool = False
    flip: bool = False
    seed: int = 0
    label_smoothing: float = 0.0
    fast: bool = True
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, valid, limit in (
            ("epochs", self.epochs >= 1, "at least 1"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "a positive number"),
            (
                "batch_size",
                self.batch_size >= 2,
                "at least 2 (batch normalisation needs more than one image)",
            ),
            ("weight_decay", self.weight_decay >= 0, "at least 0"),
            ("momentum", 0 < self.momentum < 1, "between 0 and 1"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "at least 0 and below 1"),
        ):
            if not valid:
                raise ConfigError(f"{name} is {getattr(self, name)}: it must be {limit}")


@dataclass(frozen=True)
class FitReport:
    """What a training run did.

    Attributes:
        losses: mean training loss of each epoch.
        accuracies: share of training images classified correctly during each epoch, augmentation included.
        steps: optimiser steps in all.
        dtype: what was multiplied in, "float32" or "bfloat16".
    """

    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    steps: int
    dtype: str


def fit(module: nn.Module, train: ImageSet, *, config: FitConfig, progress: Progress | None = None) -> FitReport:
    """Train a network in place with cross-entropy, SGD with Nesterov momentum and a one-cycle rate.

    Deterministic under the seed on one machine and thread count; torch's global random state is left as it was. The
    last, incomplete batch of an epoch is left out.

    Args:
        module: the network; left in the mode (training or evaluation) that it came in.
        train: the images.
        config: how to train.
        progress: told of every step, with the epoch and the loss.

    Returns:
        Losses and accuracies per epoch.

    Raises:
        ModelError: The loss is not finite, or the network does not fit the images.
    """
    if len(train) < 2:
        raise ModelError(f"cannot train on {len(train)} images: at least 2 are needed")
    batch_size = min(config.batch_size, len(train))
    steps_per_epoch = len(train) // batch_size
    dtype = fast_dtype() if config.fast else torch.float32
    images, labels = torch.from_numpy(train.images), torch.from_numpy(train.labels)
    generator = torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.SGD(
        module.parameters(),
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        config.learning_rate,
        total_steps=config.epochs * steps_per_epoch + 1,
        pct_start=_WARMUP_SHARE,
        cycle_momentum=False,
    )
    losses: list[float] = []
    accuracies: list[float] = []
    total = config.epochs * steps_per_epoch
    with (
        torch_threads(config.threads),
        torch.random.fork_rng(devices=[]),
        _training(module),
        (progress or Silent()).step("Training", total) as step,
    ):
        torch.manual_seed(config.seed)  # for dropout, which takes no generator
        for epoch in range(1, config.epochs + 1):
            order = torch.randperm(len(train), generator=generator)
            loss_sum, correct = 0.0, 0
            for index in range(steps_per_epoch):
                rows = order[index * batch_size : (index + 1) * batch_size]
                batch = _augmented(images[rows], config, generator)
                loss, logits = _loss(module, batch, labels[rows], config, dtype)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
                optimizer.step()
                schedule.step()
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise ModelError(
                        f"training diverged in epoch {epoch} (loss is {value}): lower learning_rate, "
                        f"which is {config.learning_rate}"
                    )
                loss_sum += value
                correct += int((logits.argmax(1) == labels[rows]).sum())
                step.advance(note=f"epoch {epoch}/{config.epochs}, loss {loss_sum / (index + 1):.3f}")
            losses.append(loss_sum / steps_per_epoch)
            accuracies.append(correct / (steps_per_epoch * batch_size))
    return FitReport(tuple(losses), tuple(accuracies), total, str(dtype).removeprefix("torch."))


def _augmented(images: Tensor, config: FitConfig, generator: torch.Generator) -> Tensor:
    if config.augment:
        images = random_crop(images, max(1, images.shape[-1] // _CROP_SHARE), generator)
    if config.flip:
        images = random_flip(images, generator)
    return images.contiguous(memory_format=torch.channels_last)


def _loss(
    module: nn.Module, images: Tensor, labels: Tensor, config: FitConfig, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the loss and the logits, and explain a network that does not fit the images."""
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits = module(images)
            loss = functional.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{type(module).__name__} cannot be trained on images of shape {tuple(images.shape[1:])}: {reason}"
        ) from error
    return loss, logits.detach()


@contextmanager
def _training(module: nn.Module) -> Iterator[None]:
    """Put a network into training mode and channels-last memory inside the block.

    Each module gets its own mode back: a network may keep parts of it in evaluation mode on purpose.
    """
    modes = {child: child.training for child in module.modules()}
    module.train()
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    try:
        yield
    finally:
        module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # as above
        for child, mode in modes.items():
            child.training = mode

"""Training: one loop, whose every step depends on the recipe, the step's number and the weights alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from hwloop.datasets import ImageSet
from hwloop.errors import DataError, DivergedError, ModelError
from hwloop.progress import Progress, Silent
from hwloop.training.augmentation import mixed_images, random_crop, random_flip
from hwloop.training.checkpoint import Checkpoints, Position, restore, save
from hwloop.training.config import FitConfig
from hwloop.training.hardware import deterministic, fast_dtype, torch_threads, training_device
from hwloop.training.losses import mixed_labels
from hwloop.training.schedule import rate_factor
from hwloop.training.teacher import Objective

_CROP_SHARE = 8  # images are shifted by up to an eighth of their size: 4 pixels of 32, as is usual on CIFAR
_EPOCH, _STEP = 0, 1
"""What a random stream is of; part of its seed."""


@dataclass(frozen=True)
class FitReport:
    """What a training run did.

    Attributes:
        losses: mean training loss of each epoch.
        accuracies: share of training images classified correctly during each epoch, augmentation included.
        steps: optimiser steps in all, those of earlier runs included.
        dtype: what was multiplied in, "float32" or "bfloat16".
        device: "cpu" or "cuda".
        points: names of the modules whose attention was compared with the teacher's.
    """

    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    steps: int
    dtype: str
    device: str = "cpu"
    points: tuple[str, ...] = ()


def fit(
    module: nn.Module,
    train: ImageSet,
    *,
    config: FitConfig,
    teacher: nn.Module | None = None,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> FitReport:
    """Train a network in place.

    Deterministic under the seed on one machine and thread count; torch's global random state is left as it was. On the
    CPU a run that was killed and goes on from its checkpoint ends with the same weights, bit for bit, as one that was
    not (a network that keeps state or draws numbers outside of torch is its own affair). The last, incomplete batch of
    an epoch is left out.

    Args:
        module: the network; left in the mode (training or evaluation) and on the device that it came in.
        train: the images.
        config: how to train.
        teacher: for distillation and attention transfer; left untouched.
        checkpoints: where to go on from, and to save to; None keeps nothing.
        progress: told of every step, with the epoch and the loss.

    Returns:
        Losses and accuracies per epoch.

    Raises:
        ModelError: The loss is not finite (the last checkpoint is from before), or the network does not fit the images.
        DataError: A label that the network has no output for.
        ConfigError: A teacher is missing or of no use, or CUDA is asked for and not there.
        CheckpointError: The checkpoint is another training's, or cannot be written.
    """
    if len(train) < 2:
        raise ModelError(f"cannot train on {len(train)} images: at least 2 are needed")
    device = training_device(config.device)
    dtype = fast_dtype(device) if config.fast else torch.float32
    with (
        torch_threads(config.threads),
        torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []),
        deterministic(device),
        _training(module, device),
    ):
        example = torch.from_numpy(train.images[:1]).to(device)
        torch.manual_seed(config.seed)  # for layers that are initialised by their first image
        outputs = _outputs(module, train, example)
        run = _Run(module, outputs, train, config, Objective(module, teacher, config, example), device, dtype)
        done = run.to_the_end(checkpoints, progress or Silent())
    return FitReport(done.losses, done.accuracies, done.step, run.dtype_name, device, run.objective.points)


class _Run:
    """One training: the network, its optimiser, and the images."""

    def __init__(
        self,
        module: nn.Module,
        outputs: int,
        train: ImageSet,
        config: FitConfig,
        objective: Objective,
        device: str,
        dtype: torch.dtype,
    ) -> None:
        self.module, self.outputs, self.config, self.objective = module, outputs, config, objective
        self.images, self.labels = torch.from_numpy(train.images), torch.from_numpy(train.labels)
        self.batch_size = min(config.batch_size, len(train))
        self.steps_per_epoch = len(train) // self.batch_size
        self.total = config.epochs * self.steps_per_epoch
        self.device, self.dtype = device, dtype
        self.dtype_name = str(dtype).removeprefix("torch.")
        self.optimizer = _optimizer(module, config)

    def to_the_end(self, checkpoints: Checkpoints | None, progress: Progress) -> Position:
        """Train from the checkpoint, or from the beginning."""
        position = Position()
        if checkpoints is not None:
            position = restore(checkpoints, self.module, self.optimizer, self.config, self.dtype_name)
        saved = checkpoints.clock() if checkpoints is not None else 0.0
        order = torch.empty(0, dtype=torch.long)
        with progress.step("Training", self.total, done=position.step) as step:
            while position.step < self.total:
                epoch, index = divmod(position.step, self.steps_per_epoch)
                if index == 0 or not len(order):
                    order = torch.randperm(len(self.labels), generator=_generator(self.config.seed, _EPOCH, epoch))
                rows = order[index * self.batch_size : (index + 1) * self.batch_size]
                loss, correct = self._step(position.step, rows)
                position = self._counted(position, loss, correct)
                mean = position.losses[-1] if index + 1 == self.steps_per_epoch else position.loss_sum / (index + 1)
                if checkpoints is not None and (
                    index + 1 == self.steps_per_epoch or checkpoints.clock() - saved >= checkpoints.every_s
                ):
                    self._save(checkpoints, position)
                    saved = checkpoints.clock()
                step.advance(note=f"epoch {epoch + 1}/{self.config.epochs}, loss {mean:.3f}")
        return position

    def _step(self, number: int, rows: Tensor) -> tuple[float, int]:
        """One step of the optimiser; return the loss and how many images were classified correctly."""
        config, seed = self.config, self.config.seed
        generator = _generator(seed, _STEP, number)
        labels = self.labels[rows].to(self.device)
        images = self._augmented(self.images[rows], generator).to(self.device)
        target = labels
        if config.mixup:
            share = float(np.random.default_rng([seed, _STEP, number]).beta(config.mixup, config.mixup))
            partners = torch.randperm(len(rows), generator=generator).to(self.device)
            images, target = mixed_images(images, partners, share), mixed_labels(labels, partners, share, self.outputs)
        torch.manual_seed(_seed(seed, _STEP, number))  # for dropout, which takes no generator
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * rate_factor(config.schedule, config.warmup, number, self.total)
        loss, logits = self._loss(images.contiguous(memory_format=torch.channels_last), target)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise self._diverged(number, f"loss is {value}")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
        self.optimizer.step()
        return value, int((logits.argmax(1) == labels).sum())

    def _loss(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and the logits, and explain a network that does not fit the images."""
        try:
            with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
                loss, logits = self.objective(images, target)
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            raise _unfit(self.module, images, error) from error
        return loss, logits.detach()

    def _augmented(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if self.config.augment:
            images = random_crop(images, max(1, images.shape[-1] // _CROP_SHARE), generator)
        if self.config.flip:
            images = random_flip(images, generator)
        return images

    def _counted(self, position: Position, loss: float, correct: int) -> Position:
        """The position after one more step; an epoch that is full is closed."""
        loss_sum, right = position.loss_sum + loss, position.correct + correct
        if (position.step + 1) % self.steps_per_epoch:
            return replace(position, step=position.step + 1, loss_sum=loss_sum, correct=right)
        return Position(
            position.step + 1,
            (*position.losses, loss_sum / self.steps_per_epoch),
            (*position.accuracies, right / (self.steps_per_epoch * self.batch_size)),
        )

    def _save(self, checkpoints: Checkpoints, position: Position) -> None:
        state = self.module.state_dict().items()
        broken = next((name for name, value in state if value.is_floating_point() and not value.isfinite().all()), None)
        if broken is not None:
            raise self._diverged(position.step - 1, f"{broken} is not finite")
        save(checkpoints, self.module, self.optimizer, self.config, self.dtype_name, position)

    def _diverged(self, step: int, reason: str) -> DivergedError:
        return DivergedError(
            f"training diverged in epoch {step // self.steps_per_epoch + 1} ({reason}): lower learning_rate, "
            f"which is {self.config.learning_rate}"
        )


def _optimizer(module: nn.Module, config: FitConfig) -> torch.optim.Optimizer:
    if config.optimizer == "adamw":
        return torch.optim.AdamW(module.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        module.parameters(),
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=True,
    )


def _seed(*parts: int) -> int:
    """A seed that no other parts have."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0]) >> 1  # torch's seeds are signed


def _generator(*parts: int) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(*parts))


def _outputs(module: nn.Module, train: ImageSet, example: Tensor) -> int:
    """Count the network's outputs, and refuse labels that it has none for: on CUDA they would end the process."""
    module.eval()
    try:
        with torch.no_grad():
            answer = module(example)
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        raise _unfit(module, example, error) from error
    finally:
        module.train()
    if not isinstance(answer, Tensor) or answer.ndim != 2:
        raise ModelError(f"{type(module).__name__} must return one tensor (batch, classes); a classifier is needed")
    outside = np.flatnonzero((train.labels < 0) | (train.labels >= answer.shape[1]))
    if outside.size:
        raise DataError(
            f"training image {outside[0]} has label {train.labels[outside[0]]}, but {type(module).__name__} has "
            f"{answer.shape[1]} outputs (labels 0 to {answer.shape[1] - 1}): correct the labels, or build the network "
            "for their classes"
        )
    return int(answer.shape[1])


def _unfit(module: nn.Module, images: Tensor, error: Exception) -> ModelError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ModelError(
        f"{type(module).__name__} cannot be trained on images of shape {tuple(images.shape[1:])}: {reason}"
    )


@contextmanager
def _training(module: nn.Module, device: str) -> Iterator[None]:
    """Put a network into training mode and channels-last memory on a device inside the block.

    Each module gets its own mode back: a network may keep parts of it in evaluation mode on purpose.
    """
    modes = {child: child.training for child in module.modules()}
    parameter = next(module.parameters(), None)
    before = torch.device("cpu") if parameter is None else parameter.device
    module.train()
    module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    try:
        yield
    finally:
        module.to(before).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # as above
        for child, mode in modes.items():
            child.training = mode

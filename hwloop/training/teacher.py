"""What a network is trained to lower, with or without a teacher that shows how."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hwloop.errors import ConfigError, ModelError
from hwloop.training.config import FitConfig
from hwloop.training.losses import attention_transfer, cross_entropy, distillation


class Objective:
    """The loss of a recipe: labels, the answers of a frozen teacher, and where it looks."""

    def __init__(self, student: nn.Module, teacher: nn.Module | None, config: FitConfig, example: Tensor) -> None:
        """Prepare a private, frozen copy of the teacher, and find the points where both are compared.

        Args:
            student: on its device; listened to while it is trained.
            teacher: left untouched; needed for recipes with distillation or attention, and only for them.
            config: the recipe.
            example: one image (1, c, h, w), on the student's device.

        Raises:
            ConfigError: A recipe that needs a teacher and has none, or has one that it does not ask.
            ModelError: The teacher does not take the image, or has no maps in common with the student.
        """
        if config.taught and teacher is None:
            raise ConfigError("the recipe has distillation or attention, which need a teacher: give one")
        if teacher is not None and not config.taught:
            raise ConfigError("a teacher is given, but distillation and attention are 0: give one of them a weight")
        self._config = config
        self._student = student
        self._teacher: nn.Module | None = None
        self.points: tuple[str, ...] = ()
        if teacher is not None:
            frozen = copy.deepcopy(teacher).eval().requires_grad_(False).to(example.device)
            self._teacher = frozen.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as in fit.py
            if config.attention:
                self.points = attention_points(student, frozen, example)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss, a scalar, and the student's logits (n, k), both in float32.

        Args:
            images: (n, c, h, w).
            labels: (n,) int64 classes, or (n, k) shares.
        """
        config = self._config
        if self._teacher is None:
            logits = self._student(images).float()
            return cross_entropy(logits, labels, smoothing=config.label_smoothing), logits
        with torch.no_grad(), features(self._teacher, self.points) as shown:
            answers = self._teacher(images).float()
        with features(self._student, self.points) as seen:
            logits = self._student(images).float()
        loss = distillation(
            logits, answers, labels, config.temperature, config.distillation, smoothing=config.label_smoothing
        )
        if config.attention:
            loss = loss + config.attention * attention_transfer(
                [seen[name].float() for name in self.points], [shown[name].float() for name in self.points]
            )
        return loss, logits


def attention_points(student: nn.Module, teacher: nn.Module, example: Tensor) -> tuple[str, ...]:
    """Find where attention is compared: the last map of each size, as the paper takes the end of each stage.

    Candidates are modules of both networks, under the same name, that give maps of the same height and width; a pruned
    network has the names of its base.

    Args:
        student: in whatever mode; left untouched.
        teacher: likewise.
        example: an image (1, c, h, w).

    Returns:
        Names of modules, by descending size of the map.

    Raises:
        ModelError: There are none, or a network does not take the image.
    """
    found = _map_sizes(student, example)
    by_size = {size: name for name, size in _map_sizes(teacher, example).items() if found.get(name) == size}
    if not by_size:
        raise ModelError(
            f"attention transfer finds no maps under the same name in the student ({type(student).__name__}) and the "
            f"teacher ({type(teacher).__name__}): use distillation alone"
        )
    return tuple(name for _, name in sorted(by_size.items(), reverse=True))


@contextmanager
def features(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Collect what the named modules return in the forward passes inside the block, by name, in order of their end."""
    seen: dict[str, Any] = {}

    def keep(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            seen.pop(name, None)
            seen[name] = output

        return hook

    handles = [module.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _map_sizes(module: nn.Module, example: Tensor) -> dict[str, tuple[int, int]]:
    """(height, width) of the maps of more than one pixel that modules give, by name, in order of their end."""
    modes = {child: child.training for child in module.modules()}
    module.eval()
    try:
        with torch.no_grad(), features(module, [name for name, _ in module.named_modules() if name]) as seen:
            module(example)
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{type(module).__name__} does not take images of shape {tuple(example.shape[1:])}: {reason}"
        ) from error
    finally:
        for child, mode in modes.items():
            child.training = mode
    maps = {name: one for name, one in seen.items() if isinstance(one, Tensor) and one.ndim == 4}
    return {name: (one.shape[2], one.shape[3]) for name, one in maps.items() if one.shape[2] * one.shape[3] > 1}

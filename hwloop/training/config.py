"""How to train: one frozen recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hwloop.errors import ConfigError
from hwloop.training.schedule import SCHEDULES

OPTIMIZERS = ("sgd", "adamw")
DEVICES = ("auto", "cpu", "cuda")

_PLACE = frozenset({"threads", "device"})
"""Where it runs is no part of what is done."""


@dataclass(frozen=True)
class FitConfig:
    """How to train.

    Attributes:
        epochs: passes over the training images.
        optimizer: "sgd" (with Nesterov momentum) or "adamw" (Loshchilov and Hutter 2019).
        learning_rate: the highest of the schedule.
        schedule: "one_cycle", "cosine", "step" or "constant"; see `schedule.rate_factor`.
        warmup: share of the steps in which the rate rises, 0 to below 1; None: a quarter of one_cycle, else none.
        batch_size: images per step.
        weight_decay: on all parameters; L2 of SGD, decoupled of AdamW.
        momentum: Nesterov's; AdamW has the usual 0.9 and 0.999 instead.
        augment: shift images at random by up to an eighth of their size.
        flip: mirror images at random left to right; not for digits or letters.
        mixup: parameter of the beta distribution that shares are drawn from (Zhang et al. 2018); 0 mixes nothing.
        label_smoothing: share of the target that is spread over all classes.
        distillation: weight of the teacher's answers against the labels', 0 to 1; see `losses.distillation`.
        temperature: that the answers of both are softened by.
        attention: weight of attention transfer, beside the rest of the loss; see `losses.attention_transfer`.
        seed: of the order of images, the augmentation, mixup and dropout.
        fast: multiply in bfloat16 where the processor has it in hardware (see `fast_dtype`).
        threads: of torch while training; None leaves the number as it is.
        device: "cpu", "cuda", or "auto": CUDA where there is one.
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
    optimizer: str = "sgd"
    schedule: str = "one_cycle"
    warmup: float | None = None
    mixup: float = 0.0
    distillation: float = 0.0
    temperature: float = 4.0
    attention: float = 0.0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, valid, limit in (
            ("epochs", self.epochs >= 1, "at least 1"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "a positive number"),
            ("batch_size", self.batch_size >= 2, "at least 2 (batch normalisation needs more than one image)"),
            ("seed", self.seed >= 0, "at least 0"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "at least 0"),
            ("momentum", 0 < self.momentum < 1, "between 0 and 1"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "at least 0 and below 1"),
            ("optimizer", self.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}"),
            ("schedule", self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
            ("warmup", self.warmup is None or 0 <= self.warmup < 1, "at least 0 and below 1"),
            ("mixup", 0 <= self.mixup < math.inf, "at least 0"),
            ("distillation", 0 <= self.distillation <= 1, "0 to 1"),
            ("temperature", 0 < self.temperature < math.inf, "a positive number"),
            ("attention", 0 <= self.attention < math.inf, "at least 0"),
            ("device", self.device in DEVICES, f"one of {', '.join(DEVICES)}"),
        ):
            if not valid:
                raise ConfigError(f"{name} is {getattr(self, name)}: it must be {limit}")

    @property
    def taught(self) -> bool:
        """Return whether it needs a teacher."""
        return self.distillation > 0 or self.attention > 0

    def to_record(self) -> Mapping[str, Any]:
        """Return what decides the trajectory as JSON-able data; threads and device are where it runs."""
        return {name: value for name, value in asdict(self).items() if name not in _PLACE}

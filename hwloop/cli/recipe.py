"""How to train, on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hwloop.training import FitConfig

LearningRate = Annotated[float, typer.Option(help="The highest of the schedule.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout, and nothing else there.")]


@dataclass(frozen=True)
class Recipe:
    """What commands that train have in common; how long and how fast, each has a default of its own."""

    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 128
    weight_decay: Annotated[float, typer.Option(help="On all parameters.")] = 5e-4
    optimizer: Annotated[str, typer.Option(help="sgd (Nesterov momentum 0.9) or adamw.")] = "sgd"
    schedule: Annotated[str, typer.Option(help="one_cycle, cosine, step or constant.")] = "one_cycle"
    warmup: Annotated[
        float, typer.Option(help="Share of the steps in which the rate rises; -1: as the schedule has it.")
    ] = -1.0
    augment: Annotated[bool, typer.Option("--augment", help="Shift images at random.")] = False
    flip: Annotated[bool, typer.Option("--flip", help="Mirror images at random; not for digits or letters.")] = False
    mixup: Annotated[float, typer.Option(help="Parameter of mixup's beta distribution; 0: none.")] = 0.0
    label_smoothing: Annotated[float, typer.Option(help="Share of the target that is spread over all classes.")] = 0.0
    distillation: Annotated[
        float, typer.Option(help="Weight of the teacher's answers against the labels', 0 to 1.")
    ] = 0.0
    temperature: Annotated[float, typer.Option(help="That both networks' answers are softened by.")] = 4.0
    attention: Annotated[
        float, typer.Option(help="Weight of attention transfer from the teacher; 1000 as published.")
    ] = 0.0
    float32: Annotated[bool, typer.Option("--float32", help="No bfloat16, also where the processor has it.")] = False
    threads: Annotated[int, typer.Option(min=0, help="Of torch; 0: as many as it takes.")] = 0
    torch_device: Annotated[str, typer.Option(help="auto (CUDA where there is one), cpu or cuda.")] = "auto"
    save_every: Annotated[
        float, typer.Option(min=0, help="Seconds between savings, besides one after every epoch.")
    ] = 30.0

    def config(self, epochs: int, learning_rate: float, seed: int) -> FitConfig:
        """Return it as a training takes it.

        Raises:
            ConfigError: a setting is out of range.
        """
        from hwloop.training import FitConfig  # imported here: the command line must answer at once

        return FitConfig(
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            optimizer=self.optimizer,
            schedule=self.schedule,
            warmup=None if self.warmup < 0 else self.warmup,
            augment=self.augment,
            flip=self.flip,
            mixup=self.mixup,
            label_smoothing=self.label_smoothing,
            distillation=self.distillation,
            temperature=self.temperature,
            attention=self.attention,
            seed=seed,
            fast=not self.float32,
            threads=self.threads or None,
            device=self.torch_device,
        )

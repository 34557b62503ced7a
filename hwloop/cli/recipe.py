"""How to train, on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

LearningRate = Annotated[float, typer.Option(help="The highest of the schedule.")]
BatchSize = Annotated[int, typer.Option(help="Images per step.")]
WeightDecay = Annotated[float, typer.Option(help="On all parameters.")]
Optimizer = Annotated[str, typer.Option(help="sgd (Nesterov momentum 0.9) or adamw.")]
Schedule = Annotated[str, typer.Option(help="one_cycle, cosine, step or constant.")]
Warmup = Annotated[float, typer.Option(help="Share of the steps in which the rate rises; -1: as the schedule has it.")]
Augment = Annotated[bool, typer.Option("--augment", help="Shift images at random.")]
Flip = Annotated[bool, typer.Option("--flip", help="Mirror images at random; not for digits or letters.")]
Mixup = Annotated[float, typer.Option(help="Parameter of mixup's beta distribution; 0: none.")]
LabelSmoothing = Annotated[float, typer.Option(help="Share of the target that is spread over all classes.")]
Distillation = Annotated[float, typer.Option(help="Weight of the teacher's answers against the labels', 0 to 1.")]
Temperature = Annotated[float, typer.Option(help="That both networks' answers are softened by.")]
Attention = Annotated[float, typer.Option(help="Weight of attention transfer from the teacher; 1000 as published.")]
Float32 = Annotated[bool, typer.Option("--float32", help="No bfloat16, also where the processor has it.")]
Threads = Annotated[int, typer.Option(min=0, help="Of torch; 0: as many as it takes.")]
TorchDevice = Annotated[str, typer.Option(help="auto (CUDA where there is one), cpu or cuda.")]
SaveEvery = Annotated[float, typer.Option(min=0, help="Seconds between savings, besides one after every epoch.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout, and nothing else there.")]

"""Layers and tasks: which task a layer is, and the layer that a task is measured as."""

from __future__ import annotations

import math
from collections.abc import Iterable

from hwloop.layers import Layer
from hwloop.runtimes.tvm.rewrite import WIDEST
from hwloop.runtimes.tvm.task import ConvTask, DenseTask, Task


def task_of(layer: Layer) -> Task | None:
    """The task of a layer, without its epilogue; None for what TVM's default schedules compute."""
    if layer.dtype != "float32":
        return None
    shape = layer.input_shapes[0] if layer.input_shapes else ()
    if layer.op == "conv":
        return ConvTask(
            batch=shape[0],
            channels=shape[1],
            size=(shape[2], shape[3]),
            filters=layer.out_channels,
            kernel=layer.kernel,
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            groups=layer.groups,
        )
    if layer.op == "linear":
        return DenseTask(math.prod(shape[:-1]), shape[-1], layer.output_shape[-1])
    pairs = layer.op == "matmul" and len(shape) >= 3 and len({one[:-2] for one in layer.input_shapes}) == 1
    if pairs and layer.output_shape[-1] >= WIDEST:
        return DenseTask(shape[-2], shape[-1], layer.output_shape[-1], pairs=math.prod(shape[:-2]))
    return None


def tasks_of_layers(layers: Iterable[Layer]) -> list[Task]:
    """The tasks of layers, in order; equal ones as often as they occur."""
    return [task for task in map(task_of, layers) if task is not None]


def layer_of(task: Task) -> Layer:
    """The layer whose task this is; nothing is fused behind it."""
    if isinstance(task, DenseTask) and task.pairs:
        left, right = (task.pairs, task.rows, task.inner), (task.pairs, task.inner, task.columns)
        return Layer("matmul", (left, right), (task.pairs, task.rows, task.columns))
    if isinstance(task, DenseTask):
        return Layer("linear", (task.input_shape,), task.output_shape)
    return Layer(
        "conv",
        (task.input_shape,),
        task.output_shape,
        kernel=task.kernel,
        stride=task.stride,
        padding=task.padding,
        dilation=task.dilation,
        groups=task.groups,
    )

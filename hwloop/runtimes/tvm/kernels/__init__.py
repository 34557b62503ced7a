"""Kernels: TIR functions written out tile by tile, and the order that they want their weights in.

Python loops write straight-line code (a tile's accumulators, which LLVM then keeps in registers), `serial` and
`parallel` write loops. Every kernel takes (input, weights[, bias][, residual], output).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwloop.runtimes.tvm.kernels.dense import dense, pack_dense
from hwloop.runtimes.tvm.kernels.depthwise import depthwise, pack_depthwise
from hwloop.runtimes.tvm.kernels.direct import direct, pack_direct
from hwloop.runtimes.tvm.kernels.packed import pack_packed, packed
from hwloop.runtimes.tvm.schedule import Schedule, overreaches
from hwloop.runtimes.tvm.task import DenseTask, Task

__all__ = ["build", "pack"]


def build(task: Task, schedule: Schedule, lanes: int, name: str) -> Any:
    """Write the kernel of a task.

    Args:
        task: what is computed.
        schedule: one of `candidates(task, …)`.
        lanes: float32 values in a vector register.
        name: of the function.

    Returns:
        A `tvm.tirx.PrimFunc`; its weights are those of `pack`.

    Raises:
        ValueError: the schedule's tile is longer than the output, and would write beyond it.
    """
    if overreaches(task, schedule, lanes):
        raise ValueError(f"{schedule.text} with vectors of {lanes} reaches beyond the output of {task.key}")
    if isinstance(task, DenseTask):
        return dense(task, schedule, lanes, name)
    writer = {"direct": direct, "packed": packed, "depthwise": depthwise}[schedule.kind]
    return writer(task, schedule, lanes, name)


def pack(task: Task, schedule: Schedule, lanes: int, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring weights into the order in which the kernel reads them.

    Args:
        task: what is computed.
        schedule: of the kernel.
        lanes: float32 values in a vector register.
        weight: of shape `task.weight_shape`.

    Returns:
        The packed weights; outputs beyond the last have zero weights.
    """
    if isinstance(task, DenseTask):
        return pack_dense(task, schedule, lanes, weight)
    if schedule.kind == "depthwise":
        return pack_depthwise(task, weight)
    if schedule.kind == "packed":
        return pack_packed(task, schedule, lanes, weight)
    return pack_direct(task, schedule, weight)

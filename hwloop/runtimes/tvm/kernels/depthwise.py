"""Depthwise convolution: vectors along a row, one channel at a time, its padded copy in the first cache."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwloop.runtimes.tvm.kernels.emit import Expr, Kernel, PaddedCopy, clamped, tiles, writing
from hwloop.runtimes.tvm.schedule import Schedule
from hwloop.runtimes.tvm.task import ConvTask

CHUNKS = 16
"""Channels are handed to threads in at most this many chunks: each allocates one copy and pads it once."""


def depthwise(task: ConvTask, schedule: Schedule, lanes: int, name: str) -> Any:
    """Write the kernel; weights are those of `pack_depthwise`."""
    with writing() as built:
        _Depthwise(task, schedule, lanes, name).write()
    return built.get()


def pack_depthwise(task: ConvTask, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """(channel, 1, height, width) as (channel, height x width)."""
    return np.ascontiguousarray(weight.reshape(task.filters, -1))


class _Depthwise:
    def __init__(self, task: ConvTask, schedule: Schedule, lanes: int, name: str) -> None:
        self.task, self.lanes = task, lanes
        self.rows, self.vectors = schedule.rows, schedule.columns
        self.down, self.right = task.output_size
        self.width = self.vectors * lanes
        self.kernel = Kernel(task, (task.filters, task.kernel[0] * task.kernel[1]), lanes, name)
        self.tir = self.kernel.tir

    def write(self) -> None:
        task, tir = self.task, self.tir
        planes = task.batch * task.channels
        chunk = max(
            size for size in range(1, planes + 1) if planes % size == 0 and size * CHUNKS <= max(planes, CHUNKS)
        )
        with tir.parallel(0, planes // chunk) as part:
            copy = PaddedCopy(self.kernel, task, 1, max(self.right, self.width), split=True)
            copy.clear(0)
            with tir.serial(0, chunk) as inside:
                index = part * chunk + inside
                copy.fill(0, index)
                channel = index if task.batch == 1 else index % task.channels
                with (
                    tir.serial(0, tiles(self.rows, self.down)) as row_tile,
                    tir.serial(0, tiles(self.width, self.right)) as column_tile,
                ):
                    top = clamped(row_tile, self.rows, self.down)
                    left = clamped(column_tile, self.width, self.right)
                    self._tile(copy, index, channel, top, left)

    def _tile(self, copy: PaddedCopy, index: Expr, channel: Expr, top: Expr, left: Expr) -> None:
        task, tir, kernel = self.task, self.tir, self.kernel
        sums = kernel.accumulators(self.rows * self.vectors)
        places = [(row, vector) for row in range(self.rows) for vector in range(self.vectors)]
        begin = kernel.zero() if kernel.bias is None else kernel.bias[channel]
        for at in range(len(places)):
            tir.buffer_store(sums, kernel.spread(begin), [kernel.vector(at * self.lanes)])
        for down in range(task.kernel[0]):
            for right in range(task.kernel[1]):
                weight = kernel.spread(kernel.weights[channel, down * task.kernel[1] + right])
                shift = right * task.dilation[1]
                phase, offset = shift % task.stride[1], shift // task.stride[1]
                for at, (row, vector) in enumerate(places):
                    line = (top + row) * task.stride[0] + down * task.dilation[0]
                    start = left + vector * self.lanes + offset
                    kernel.add_product(sums, at, copy.buffer[0, line, phase, kernel.vector(start)], weight)
        for at, (row, vector) in enumerate(places):
            start = (top + row) * self.right + left + vector * self.lanes
            kernel.store(sums, at, index, start, self.right)

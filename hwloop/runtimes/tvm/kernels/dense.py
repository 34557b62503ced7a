"""Matrix product with constant weights: vectors along the columns, one value of the input broadcast over them.

With one or two rows there are too few accumulators to hide the latency of a multiply-add: then the reduction is split
into several sums that are added in the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwloop.runtimes.tvm.kernels.emit import Expr, Kernel, clamped, covered, gathered, tiles, writing
from hwloop.runtimes.tvm.schedule import Schedule
from hwloop.runtimes.tvm.task import DenseTask


def dense(task: DenseTask, schedule: Schedule, lanes: int, name: str) -> Any:
    """Write the kernel; weights are those of `pack_dense`."""
    with writing() as built:
        _Dense(task, schedule, lanes, name).write()
    return built.get()


def pack_dense(task: DenseTask, schedule: Schedule, lanes: int, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """(inner, columns) as (tile, inner, column of the tile); what is data stays as it is."""
    if task.pairs:
        return weight
    index = covered(schedule.channels * lanes, task.columns, 1)
    return np.ascontiguousarray(gathered(np.ascontiguousarray(weight.T), index).transpose(0, 2, 1))


class _Dense:
    def __init__(self, task: DenseTask, schedule: Schedule, lanes: int, name: str) -> None:
        self.task, self.lanes = task, lanes
        self.vectors, self.rows, self.parts = schedule.channels, schedule.rows, schedule.columns
        self.outer = schedule.order == "outer"
        self.columns = self.vectors * lanes
        self.column_tiles = tiles(self.columns, task.columns)
        shape = task.weight_shape if task.pairs else (self.column_tiles, task.inner, self.columns)
        self.kernel = Kernel(task, shape, lanes, name)
        self.tir = self.kernel.tir

    def write(self) -> None:
        tir, row_tiles = self.tir, tiles(self.rows, self.task.rows)
        with (
            tir.serial(0, self.task.matrices) as matrix,
            tir.parallel(0, self.column_tiles * row_tiles) as tile,
        ):
            if self.outer:
                column_tile, row_tile = tile // row_tiles, tile % row_tiles
            else:
                column_tile, row_tile = tile % self.column_tiles, tile // self.column_tiles
            top = clamped(row_tile, self.rows, self.task.rows)
            self._tile(matrix, column_tile, top, clamped(column_tile, self.columns, self.task.columns))

    def _weights(self, matrix: Expr, column_tile: Expr, inner: Expr, left: Expr, vector: int) -> Expr:
        """A vector of the right-hand side."""
        task, kernel, lanes = self.task, self.kernel, self.lanes
        if not task.pairs:
            return kernel.weights[column_tile, inner, kernel.vector(vector * lanes)]
        return kernel.weights[matrix * task.inner + inner, kernel.vector(left + vector * lanes)]

    def _tile(self, matrix: Expr, column_tile: Expr, place: Expr, left: Expr) -> None:
        task, tir, kernel, lanes = self.task, self.tir, self.kernel, self.lanes
        count = self.rows * self.vectors
        top = matrix * task.rows + place
        sums = kernel.accumulators(count * self.parts)
        for at in range(count * self.parts):
            tir.buffer_store(sums, kernel.spread(kernel.zero()), [kernel.vector(at * lanes)])

        def step(inner: Expr, part: int) -> None:
            for row in range(self.rows):
                value = kernel.spread(kernel.source[top + row, inner])
                for vector in range(self.vectors):
                    weight = self._weights(matrix, column_tile, inner, left, vector)
                    kernel.add_product(sums, part * count + row * self.vectors + vector, value, weight)

        whole = task.inner // self.parts
        with tir.serial(0, whole) as inner:
            for part in range(self.parts):
                step(inner * self.parts + part, part)
        for inner in range(whole * self.parts, task.inner):
            step(inner, 0)
        for row in range(self.rows):
            for vector in range(self.vectors):
                self._store(
                    sums, row * self.vectors + vector, top + row, left + vector * lanes, task.columns - vector * lanes
                )

    def _store(self, sums: Any, at: int, row: Expr, start: Expr, real: int) -> None:
        """Add the partial sums and the bias, and store."""
        tir, kernel, lanes = self.tir, self.kernel, self.lanes
        index = kernel.vector(at * lanes)
        value = sums[index]
        for part in range(1, self.parts):
            value = value + sums[kernel.vector((part * self.rows * self.vectors + at) * lanes)]
        if kernel.bias is not None and real >= lanes:
            value = value + kernel.bias[kernel.vector(start)]
        tir.buffer_store(sums, value, [index])
        if kernel.bias is not None and real < lanes:
            for lane in range(real):
                tir.buffer_store(sums, sums[at * lanes + lane] + kernel.bias[start + lane], [at * lanes + lane])
        kernel.store(sums, at, row, start, real)

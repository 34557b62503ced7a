"""What all kernels write: the function around them, accumulators, the fused epilogue, the padded copy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwloop.runtimes.tvm.extra import load, script
from hwloop.runtimes.tvm.task import ConvTask, Epilogue, Task

OPAQUE = 8
"""TVM's pattern of a function that nothing may be fused into."""

Expr = Any
"""An expression of TIR; plain integers are expressions too."""


class Kernel:
    """A TIR function while it is being written: its arguments as flat views, and the statements kernels share.

    Attributes:
        tir: the statement builder of TVM.
        source: the input, two axes: (images x channels, pixels), or (rows, inner).
        weights: packed.
        bias: one value per output channel, or None.
        residual: like `output`, or None.
        output: two axes: (images x filters, pixels), or (rows, columns).
        lanes: values in a vector.
    """

    def __init__(self, task: Task, weight_shape: tuple[int, ...], lanes: int, name: str) -> None:
        """Declare the arguments; call inside `writing`."""
        self.tir = tir = script()
        self.lanes = lanes
        self.epilogue: Epilogue = task.epilogue
        tir.func_name(name)
        tir.func_attr({"tirx.noalias": True, "op_pattern": OPAQUE})
        channels = task.filters if isinstance(task, ConvTask) else task.columns

        def argument(label: str, shape: tuple[int, ...]) -> Any:
            return tir.arg(label, tir.buffer(shape, layout=None))

        source = argument("source", task.input_shape)
        self.weights = argument("weights", weight_shape)
        self.bias = argument("bias", (channels,)) if self.epilogue.bias else None
        residual = argument("residual", task.output_shape) if self.epilogue.residual else None
        output = argument("output", task.output_shape)
        self.source = self._flat(source, task.input_shape)
        self.residual = None if residual is None else self._flat(residual, task.output_shape)
        self.output = self._flat(output, task.output_shape)

    def _flat(self, buffer: Any, shape: tuple[int, ...]) -> Any:
        """NCHW as (N x C, H x W); matrices as they are."""
        if len(shape) == 2:
            return buffer
        return self.tir.decl_buffer((shape[0] * shape[1], shape[2] * shape[3]), data=buffer.data, layout=None)

    def accumulators(self, count: int) -> Any:
        """Registers for `count` vectors."""
        return self.tir.alloc_buffer((count * self.lanes,), scope="local", layout=None)

    def vector(self, start: Expr) -> Expr:
        """The index of a vector of neighbours."""
        return self.tir.ramp(start, 1, self.lanes)

    def spread(self, value: Expr) -> Expr:
        """A scalar in every lane."""
        return self.tir.broadcast(value, self.lanes)

    def zero(self) -> Expr:
        """The scalar 0."""
        return self.tir.float32(0)

    def begin(self, sums: Any, at: int, channel: Expr, count: int) -> None:
        """Let the lanes of accumulator `at` begin with the bias of channels from `channel`; `count` of them exist."""
        tir, bias = self.tir, self.bias
        if bias is None or count >= self.lanes:
            value = self.spread(self.zero()) if bias is None else bias[self.vector(channel)]
            tir.buffer_store(sums, value, [self.vector(at * self.lanes)])
            return
        for lane in range(self.lanes):
            tir.buffer_store(sums, bias[channel + lane] if lane < count else self.zero(), [at * self.lanes + lane])

    def add_product(self, sums: Any, at: int, left: Expr, right: Expr) -> None:
        """Let accumulator `at` grow by a product of two vectors."""
        index = self.vector(at * self.lanes)
        self.tir.buffer_store(sums, sums[index] + left * right, [index])

    def finish(self, value: Expr, row: Expr, index: Expr, *, wide: bool) -> Expr:
        """Apply the epilogue but for the bias, which accumulators begin with.

        Args:
            value: a vector, or a scalar.
            row: of the output.
            index: in that row: a vector of indices, or one.
            wide: whether `value` is a vector.
        """
        tir, epilogue = self.tir, self.epilogue

        def constant(number: float) -> Expr:
            return self.spread(tir.float32(number)) if wide else tir.float32(number)

        if self.residual is not None:
            value = value + self.residual[row, index]
        if epilogue.slope is not None:
            value = tir.max(value, constant(0)) + constant(epilogue.slope) * tir.min(value, constant(0))
        if epilogue.low is not None:
            value = tir.max(value, constant(epilogue.low))
        if epilogue.high is not None:
            value = tir.min(value, constant(epilogue.high))
        return value

    def store(self, sums: Any, at: int, row: Expr, start: Expr, count: int) -> None:
        """Finish accumulator `at` and store it in `row` from `start`; only its first `count` lanes are real."""
        if count >= self.lanes:
            index = self.vector(start)
            value = self.finish(sums[self.vector(at * self.lanes)], row, index, wide=True)
            self.tir.buffer_store(self.output, value, [row, index])
            return
        for lane in range(count):
            value = self.finish(sums[at * self.lanes + lane], row, start + lane, wide=False)
            self.tir.buffer_store(self.output, value, [row, start + lane])

    def store_across(self, sums: Any, at: int, first_row: Expr, index: Expr, count: int) -> None:
        """Finish accumulator `at`, whose lanes belong to consecutive rows, and store lane by lane."""
        for lane in range(count):
            value = self.finish(sums[at * self.lanes + lane], first_row + lane, index, wide=False)
            self.tir.buffer_store(self.output, value, [first_row + lane, index])


class PaddedCopy:
    """A copy of input rows with their padding, split by column modulo stride.

    Neighbours in the output are neighbours there, whatever the stride.

    Attributes:
        buffer: (planes, rows, stride, columns).
    """

    def __init__(self, kernel: Kernel, task: ConvTask, planes: int, out_columns: int, *, split: bool) -> None:
        """Allocate.

        Args:
            kernel: being written.
            task: the convolution.
            planes: how many channels are held at once.
            out_columns: how many output columns tiles reach over, garbage included.
            split: whether columns are split by the stride.
        """
        self.kernel, self.task = kernel, task
        self.phases = task.stride[1] if split else 1
        self.rows = (task.output_size[0] - 1) * task.stride[0] + task.span[0]
        reach = (out_columns - 1) * task.stride[1] + task.span[1]
        self.columns = -(-reach // self.phases)
        self.buffer = kernel.tir.alloc_buffer((planes, self.rows, self.phases, self.columns), layout=None)

    def clear(self, plane: Expr) -> None:
        """Write the padding of a plane."""
        top, bottom = self._filled_rows()
        for first, last in ((0, top), (bottom, self.rows)):
            self._zero(plane, first, last, [(phase, 0, self.columns) for phase in range(self.phases)])
        edges = []
        for phase in range(self.phases):
            left, right = self._filled_columns(phase)
            edges += [(phase, 0, left), (phase, right, self.columns)]
        self._zero(plane, top, bottom, edges)

    def _zero(self, plane: Expr, first: int, last: int, edges: list[tuple[int, int, int]]) -> None:
        tir = self.kernel.tir
        if last <= first or all(right <= left for _, left, right in edges):
            return
        with tir.serial(first, last) as row:
            for phase, left, right in edges:
                if right > left:
                    with tir.serial(left, right) as column:
                        tir.buffer_store(self.buffer, self.kernel.zero(), [plane, row, phase, column])

    def fill(self, plane: Expr, channel: Expr) -> None:
        """Copy a channel's pixels into a plane."""
        tir, task = self.kernel.tir, self.task
        top, bottom = self._filled_rows()
        if bottom <= top:
            return
        with tir.serial(top, bottom) as row:
            for phase in range(self.phases):
                left, right = self._filled_columns(phase)
                if right > left:
                    with tir.serial(left, right) as column:
                        pixel = (row - task.padding[0]) * task.size[1] + column * self.phases + phase - task.padding[1]
                        tir.buffer_store(self.buffer, self.kernel.source[channel, pixel], [plane, row, phase, column])

    def _filled_rows(self) -> tuple[int, int]:
        top = min(self.task.padding[0], self.rows)
        return top, max(top, min(self.rows, self.task.padding[0] + self.task.size[0]))

    def _filled_columns(self, phase: int) -> tuple[int, int]:
        """Columns of a phase that hold pixels: those whose position in the row lies in the image."""
        left = max(0, -(-(self.task.padding[1] - phase) // self.phases))
        right = -(-(self.task.padding[1] + self.task.size[1] - phase) // self.phases)
        left = min(left, self.columns)
        return left, max(left, min(self.columns, right))


@contextmanager
def writing() -> Iterator[Any]:
    """Open a function; what is yielded gives it with `get()` afterwards."""
    builder = load("tvm.script.ir_builder").IRBuilder()
    with builder, script().prim_func(s_tir=True):
        yield builder


def clamped(tile: Expr, size: int, total: int) -> Expr:
    """Where a tile begins: the last one ends at `total`, over the end of the one before."""
    if size >= total:
        return 0
    start = tile * size
    return start if total % size == 0 else script().min(start, total - size)


def tiles(size: int, total: int) -> int:
    """How many tiles cover `total`."""
    return max(1, -(-total // size))


def covered(size: int, total: int, groups: int) -> NDArray[np.int64]:
    """Which outputs each tile computes, as `clamped` places them; -1 for those beyond the last.

    Returns:
        (groups x tiles, size).
    """
    starts = np.minimum(np.arange(tiles(size, total)) * size, max(total - size, 0))
    inside = starts[:, None] + np.arange(size)[None, :]
    inside = np.where(inside < total, inside, -1)
    shifted = inside[None] + np.arange(groups)[:, None, None] * total
    return np.where(inside[None] < 0, -1, shifted).reshape(-1, size)


def gathered(values: NDArray[np.float32], index: NDArray[np.int64]) -> NDArray[np.float32]:
    """Rows of `values` by index; zeros for -1."""
    padded = np.concatenate([values, np.zeros((1, *values.shape[1:]), np.float32)])
    picked: NDArray[np.float32] = padded[index]
    return picked

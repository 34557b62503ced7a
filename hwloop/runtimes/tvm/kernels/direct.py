"""Convolution with vectors along a row of pixels: a weight is broadcast over them.

Input and output stay NCHW. Where rows are padded or strided, they are first copied, padded and split by column modulo
stride, so that every vector is one unaligned load.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwloop.runtimes.tvm.kernels.emit import Expr, Kernel, PaddedCopy, clamped, covered, gathered, tiles, writing
from hwloop.runtimes.tvm.schedule import Schedule, plane
from hwloop.runtimes.tvm.task import ConvTask


def direct(task: ConvTask, schedule: Schedule, lanes: int, name: str) -> Any:
    """Write the kernel; weights are those of `pack_direct`."""
    with writing() as built:
        _Direct(task, schedule, lanes, name).write()
    return built.get()


def pack_direct(task: ConvTask, schedule: Schedule, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """(out, in, height, width) as (tile, in, height, width, filter of the tile)."""
    index = covered(schedule.channels, task.group_filters, task.groups)
    return np.ascontiguousarray(gathered(weight, index).transpose(0, 2, 3, 4, 1))


class _Direct:
    def __init__(self, task: ConvTask, schedule: Schedule, lanes: int, name: str) -> None:
        self.task, self.lanes = task, lanes
        self.filters, self.rows, self.vectors = schedule.channels, schedule.rows, schedule.columns
        self.outer = schedule.order == "outer"
        self.down, self.right = plane(task)
        self.width = self.vectors * lanes
        self.filter_tiles = tiles(self.filters, task.group_filters)
        shape = (task.groups * self.filter_tiles, task.group_channels, *task.kernel, self.filters)
        self.kernel = Kernel(task, shape, lanes, name)
        self.tir = self.kernel.tir
        # A vector must not reach beyond a row of the source, unless that row was copied with room behind it.
        room = self.right >= self.width
        plain = task.stride == (1, 1) if task.pointwise else task.stride[1] == 1 and not any(task.padding)
        self.copy: Any = None
        self.needs_copy = not (plain and room)

    def write(self) -> None:
        task, tir = self.task, self.tir
        if self.needs_copy:
            self._allocate()
        with tir.serial(0, task.batch) as image:
            if self.needs_copy:
                with tir.parallel(0, task.channels) as channel:
                    self._copy(channel, image * task.channels + channel)
            self._multiply(image)

    def _allocate(self) -> None:
        if self.task.pointwise:
            columns = max(self.right, self.width)
            self.copy = self.tir.alloc_buffer((self.task.channels, columns), layout=None)
        else:
            self.copy = PaddedCopy(self.kernel, self.task, self.task.channels, max(self.right, self.width), split=True)

    def _copy(self, channel: Expr, plane_index: Expr) -> None:
        task, tir = self.task, self.tir
        if not task.pointwise:
            self.copy.clear(channel)
            self.copy.fill(channel, plane_index)
            return
        down, right = task.output_size
        with tir.serial(0, down) as row, tir.serial(0, right) as column:
            pixel = row * (task.stride[0] * task.size[1]) + column * task.stride[1]
            tir.buffer_store(self.copy, self.kernel.source[plane_index, pixel], [channel, row * right + column])
        if self.width > self.right:
            with tir.serial(self.right, self.width) as column:
                tir.buffer_store(self.copy, self.kernel.zero(), [channel, column])

    def _multiply(self, image: Expr) -> None:
        tir = self.tir
        row_tiles, column_tiles = tiles(self.rows, self.down), tiles(self.width, self.right)
        filter_tiles = self.task.groups * self.filter_tiles
        with tir.parallel(0, filter_tiles * row_tiles) as tile:
            if self.outer:
                filter_tile, row_tile = tile // row_tiles, tile % row_tiles
            else:
                filter_tile, row_tile = tile % filter_tiles, tile // filter_tiles
            if row_tiles == 1:
                filter_tile, row_tile = tile, 0
            elif filter_tiles == 1:
                filter_tile, row_tile = 0, tile
            with tir.serial(0, column_tiles) as column_tile:
                top = clamped(row_tile, self.rows, self.down)
                left = clamped(column_tile, self.width, self.right)
                self._tile(image, filter_tile, top, left)

    def _tile(self, image: Expr, filter_tile: Expr, top: Expr, left: Expr) -> None:
        task, tir, kernel = self.task, self.tir, self.kernel
        group = filter_tile // self.filter_tiles if task.groups > 1 else 0
        first = group * task.group_filters + clamped(filter_tile % self.filter_tiles, self.filters, task.group_filters)
        sums = kernel.accumulators(self.filters * self.rows * self.vectors)
        places = [(row, vector) for row in range(self.rows) for vector in range(self.vectors)]

        def at(one: int, place: tuple[int, int]) -> int:
            return (one * self.rows + place[0]) * self.vectors + place[1]

        for one in range(self.filters):
            begin = kernel.zero() if kernel.bias is None else kernel.bias[first + one]
            for place in places:
                tir.buffer_store(sums, kernel.spread(begin), [kernel.vector(at(one, place) * self.lanes)])
        with tir.serial(0, task.group_channels) as channel, tir.serial(0, task.kernel[0]) as down:
            for right in range(task.kernel[1]):
                pairs = [(one, place) for one in range(self.filters) for place in places]
                if self.filters < len(places):  # keep the smaller side in registers, walk along the other
                    pairs = [(one, place) for place in places for one in range(self.filters)]
                for one, place in pairs:
                    pixels = self._pixels(
                        image,
                        group * task.group_channels + channel,
                        (top + place[0], left + place[1] * self.lanes),
                        (down, right),
                    )
                    weight = kernel.spread(kernel.weights[filter_tile, channel, down, right, one])
                    kernel.add_product(sums, at(one, place), pixels, weight)
        for one in range(self.filters):
            for place in places:
                start = (top + place[0]) * self.right + left + place[1] * self.lanes
                row = image * task.filters + first + one
                kernel.store(sums, at(one, place), row, start, self.right)

    def _pixels(self, image: Expr, channel: Expr, place: tuple[Expr, Expr], shift: tuple[Expr, int]) -> Expr:
        """The vector of input pixels under one kernel position, for neighbouring outputs from `place`."""
        task, kernel = self.task, self.kernel
        row = place[0] * task.stride[0] + shift[0] * task.dilation[0]
        column = shift[1] * task.dilation[1]
        if not self.needs_copy:
            start = place[1] if task.pointwise else row * task.size[1] + place[1] + column
            return kernel.source[image * task.channels + channel, kernel.vector(start)]
        if task.pointwise:
            return self.copy[channel, kernel.vector(place[1])]
        phase, offset = column % task.stride[1], column // task.stride[1]
        return self.copy.buffer[channel, row, phase, kernel.vector(place[1] + offset)]

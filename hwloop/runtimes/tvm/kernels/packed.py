"""Convolution with vectors along the output channels: a pixel is broadcast over them.

For maps without room for a vector of pixels. Input and output stay NCHW, so results are stored value by value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwloop.runtimes.tvm.kernels.emit import Expr, Kernel, PaddedCopy, clamped, covered, gathered, tiles, writing
from hwloop.runtimes.tvm.schedule import Schedule, plane
from hwloop.runtimes.tvm.task import ConvTask


def packed(task: ConvTask, schedule: Schedule, lanes: int, name: str) -> Any:
    """Write the kernel; weights are those of `pack_packed`."""
    with writing() as built:
        _Packed(task, schedule, lanes, name).write()
    return built.get()


def pack_packed(task: ConvTask, schedule: Schedule, lanes: int, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """(out, in, height, width) as (tile, in, height, width, filter of the tile)."""
    index = covered(schedule.channels * lanes, task.group_filters, task.groups)
    return np.ascontiguousarray(gathered(weight, index).transpose(0, 2, 3, 4, 1))


class _Packed:
    def __init__(self, task: ConvTask, schedule: Schedule, lanes: int, name: str) -> None:
        self.task, self.lanes = task, lanes
        self.vectors, self.rows, self.pixels = schedule.channels, schedule.rows, schedule.columns
        self.outer = schedule.order == "outer"
        # A strided or padded map is not one long row.
        self.flat = task.pointwise and task.stride == (1, 1)
        self.down, self.right = plane(task)
        self.out_right = task.output_size[1]
        self.filters = self.vectors * lanes
        self.filter_tiles = tiles(self.filters, task.group_filters)
        shape = (task.groups * self.filter_tiles, task.group_channels, *task.kernel, self.filters)
        self.kernel = Kernel(task, shape, lanes, name)
        self.tir = self.kernel.tir
        self.copy: PaddedCopy | None = None

    def write(self) -> None:
        task, tir = self.task, self.tir
        if any(task.padding):
            self.copy = PaddedCopy(self.kernel, task, task.channels, self.right, split=False)
        with tir.serial(0, task.batch) as image:
            if self.copy is not None:
                with tir.parallel(0, task.channels) as channel:
                    self.copy.clear(channel)
                    self.copy.fill(channel, image * task.channels + channel)
            row_tiles, column_tiles = tiles(self.rows, self.down), tiles(self.pixels, self.right)
            filter_tiles, places = task.groups * self.filter_tiles, row_tiles * column_tiles
            with tir.parallel(0, filter_tiles * places) as tile:
                if self.outer:
                    filter_tile, place = tile // places, tile % places
                else:
                    filter_tile, place = tile % filter_tiles, tile // filter_tiles
                top = clamped(place // column_tiles, self.rows, self.down)
                left = clamped(place % column_tiles, self.pixels, self.right)
                self._tile(image, filter_tile, top, left)

    def _tile(self, image: Expr, filter_tile: Expr, top: Expr, left: Expr) -> None:
        task, tir, kernel, lanes = self.task, self.tir, self.kernel, self.lanes
        group = filter_tile // self.filter_tiles if task.groups > 1 else 0
        inside = clamped(filter_tile % self.filter_tiles, self.filters, task.group_filters)
        first = group * task.group_filters + inside
        sums = kernel.accumulators(self.vectors * self.rows * self.pixels)
        places = [(row, pixel) for row in range(self.rows) for pixel in range(self.pixels)]
        real = [min(lanes, task.group_filters - vector * lanes) for vector in range(self.vectors)]

        def at(vector: int, place: tuple[int, int]) -> int:
            return (vector * self.rows + place[0]) * self.pixels + place[1]

        for vector in range(self.vectors):
            for place in places:
                kernel.begin(sums, at(vector, place), first + vector * lanes, real[vector])
        with tir.serial(0, task.group_channels) as channel, tir.serial(0, task.kernel[0]) as down:
            for right in range(task.kernel[1]):
                pairs = [(vector, place) for place in places for vector in range(self.vectors)]
                if self.vectors > len(places):  # keep the smaller side in registers, walk along the other
                    pairs = [(vector, place) for vector in range(self.vectors) for place in places]
                for vector, place in pairs:
                    pixel = self._pixel(
                        image, group * task.group_channels + channel, (top + place[0], left + place[1]), (down, right)
                    )
                    weight = kernel.weights[filter_tile, channel, down, right, kernel.vector(vector * lanes)]
                    kernel.add_product(sums, at(vector, place), kernel.spread(pixel), weight)
        for vector in range(self.vectors):
            for place in places:
                index = (top + place[0]) * self.right + left + place[1]
                row = image * task.filters + first + vector * lanes
                kernel.store_across(sums, at(vector, place), row, index, real[vector])

    def _pixel(self, image: Expr, channel: Expr, place: tuple[Expr, Expr], shift: tuple[Expr, int]) -> Expr:
        task, kernel = self.task, self.kernel
        if self.flat:
            return kernel.source[image * task.channels + channel, place[1]]
        row, column = place
        if task.pointwise:  # one long row of outputs, whose inputs lie a stride apart
            row, column = place[1] // self.out_right, place[1] % self.out_right
        row = row * task.stride[0] + shift[0] * task.dilation[0]
        column = column * task.stride[1] + shift[1] * task.dilation[1]
        if self.copy is not None:
            return self.copy.buffer[channel, row, 0, column]
        return kernel.source[image * task.channels + channel, row * task.size[1] + column]

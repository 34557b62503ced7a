"""How a task is computed: the kernel and its register tile, and which are worth trying, best guess first.

Everything here is arithmetic on sizes; kernels are written by `hwloop.runtimes.tvm.kernels`.

The tile is what one pass over the reduction keeps in vector registers. A tile that does not divide the output is laid
over its end a second time (the last tile begins earlier and computes some values again): no case distinction reaches
the innermost loop.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from hwloop.runtimes.tvm.task import ConvTask, DenseTask, Task

Kind = Literal["direct", "packed", "depthwise", "dense"]
"""Kernels.

- ``direct``: convolution, vectors along a row of pixels, weights broadcast;
- ``packed``: convolution, vectors along the output channels, pixels broadcast (small maps);
- ``depthwise``: vectors along a row, one channel at a time;
- ``dense``: matrix product, vectors along the columns.
"""
Order = Literal["outer", "inner"]
"""Whether the loop over output channels (columns) lies outside that over rows, or inside."""


@dataclass(frozen=True)
class Schedule:
    """A kernel and its tile.

    Attributes:
        kind: the kernel.
        channels: output channels per tile; in vectors for ``packed`` and ``dense``; 1 for ``depthwise``.
        rows: rows of pixels (of the matrix) per tile.
        columns: pixels per row and tile; in vectors for ``direct`` and ``depthwise``; partial sums for ``dense``.
        order: of the loops over tiles.
    """

    kind: Kind
    channels: int
    rows: int
    columns: int
    order: Order = "outer"

    @property
    def accumulators(self) -> int:
        """Vector registers that hold sums."""
        return self.channels * self.rows * self.columns

    @property
    def text(self) -> str:
        """For people and records: "direct 4x1x2 outer"; `Schedule.parse` reads it."""
        return f"{self.kind} {self.channels}x{self.rows}x{self.columns} {self.order}"

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Read `text` back.

        Raises:
            ValueError: it is no schedule.
        """
        kind, tile, order = text.split(" ")
        if kind not in ("direct", "packed", "depthwise", "dense") or order not in ("outer", "inner"):
            raise ValueError(f"{text!r} is no schedule")
        channels, rows, columns = map(int, tile.split("x"))
        return cls(kind, channels, rows, columns, order)  # type: ignore[arg-type]


@dataclass(frozen=True)
class VectorUnit:
    """What a tile has to fit.

    Attributes:
        lanes: float32 values in a register.
        registers: vector registers.
    """

    lanes: int
    registers: int


def overreaches(task: Task, schedule: Schedule, lanes: int) -> bool:
    """Whether the vectors of a tile would write beyond the end of what they lie along: kernels know no masks.

    A single vector may be longer than that, as its lanes are then stored one by one.
    """
    if isinstance(task, DenseTask):
        vectors, length = schedule.channels, task.columns
    elif schedule.kind == "packed":
        vectors, length = schedule.channels, task.group_filters
    else:
        vectors, length = schedule.columns, (plane(task) if schedule.kind == "direct" else task.output_size)[1]
    return vectors > 1 and vectors * lanes > length


ITEM = 4
"""Bytes of a float32."""
NEAR_BYTES = 256 * 1024
"""What stays in the near caches of common processors; a guess, as all here."""
FAR_BYTES_PER_CYCLE = 8.0
"""At which pace the rest comes."""


def candidates(task: Task, unit: VectorUnit) -> list[Schedule]:
    """Every schedule that is worth a trial.

    Args:
        task: what is computed.
        unit: of the target.

    Returns:
        Distinct schedules, at least one, the best guess first.
    """
    found = dict.fromkeys(_fitting(task, unit))
    return sorted(found, key=lambda one: (estimate(task, one, unit), one.text))


def _fitting(task: Task, unit: VectorUnit) -> Iterator[Schedule]:
    if isinstance(task, DenseTask):
        yield from _dense(task, unit)
    elif task.depthwise:
        yield from _depthwise(task, unit)
    else:
        yield from _direct(task, unit)
        yield from _packed(task, unit)


def plane(task: ConvTask) -> tuple[int, int]:
    """Rows and columns of the output as a kernel sees it: one long row when neighbours do not matter."""
    down, right = task.output_size
    return (1, down * right) if task.pointwise else (down, right)


def _direct(task: ConvTask, unit: VectorUnit) -> Iterator[Schedule]:
    down, right = plane(task)
    for channels, rows, vectors in _tiles((1, 2, 3, 4, 5, 6, 8, 12), (1, 2, 3, 4), (1, 2, 3, 4, 6, 8)):
        pixels = rows * vectors
        kept = min(channels, pixels) + 1
        if channels > task.group_filters or rows > down or (vectors > 1 and vectors * unit.lanes > right):
            continue
        if channels * pixels + kept <= unit.registers and channels * pixels >= min(4, task.group_filters):
            yield Schedule("direct", channels, rows, vectors, "outer")
            yield Schedule("direct", channels, rows, vectors, "inner")


def _packed(task: ConvTask, unit: VectorUnit) -> Iterator[Schedule]:
    down, right = plane(task)
    if task.group_filters < unit.lanes // 2:
        return
    for vectors, rows, pixels in _tiles((1, 2, 3, 4, 6, 8), (1, 2, 3, 4), (1, 2, 3, 4, 5, 6, 7, 8, 12)):
        if rows > down or pixels > right or (vectors > 1 and vectors * unit.lanes > task.group_filters):
            continue
        kept = min(vectors, rows * pixels) + 1
        sums = vectors * rows * pixels
        if sums + kept <= unit.registers and (sums >= 6 or pixels * rows == down * right):
            yield Schedule("packed", vectors, rows, pixels, "outer")
            yield Schedule("packed", vectors, rows, pixels, "inner")


def _depthwise(task: ConvTask, unit: VectorUnit) -> Iterator[Schedule]:
    down, right = task.output_size
    for _, rows, vectors in _tiles((1,), (1, 2, 3, 4, 6, 7, 8), (1, 2, 3, 4, 7)):
        if rows > down or (vectors > 1 and vectors * unit.lanes > right) or rows * vectors > unit.registers - 3:
            continue
        yield Schedule("depthwise", 1, rows, vectors)


def _dense(task: DenseTask, unit: VectorUnit) -> Iterator[Schedule]:
    for vectors, rows, sums in _tiles((1, 2, 3, 4, 6, 8, 12), (1, 2, 3, 4, 5, 6, 7), (1, 2, 4, 8)):
        if rows > task.rows or sums > task.inner or (vectors > 1 and vectors * unit.lanes > task.columns):
            continue
        if sums > 1 and (rows * vectors > 4 or rows > 1 or task.pairs):
            continue
        if task.pairs and vectors * unit.lanes > task.columns:
            continue
        if rows * vectors * sums + min(vectors, rows) + 1 <= unit.registers:
            yield Schedule("dense", vectors, rows, sums, "outer")
            if task.rows > rows:
                yield Schedule("dense", vectors, rows, sums, "inner")


def _tiles(*axes: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    first, second, third = (tuple(axis) for axis in axes)
    return ((a, b, c) for a in first for b in second for c in third)


def estimate(task: Task, schedule: Schedule, unit: VectorUnit) -> float:
    """A guess at the time of a schedule, in cycles: what orders untried schedules, and nothing else.

    Counts, per step of the reduction: multiply-adds (two a cycle, with a latency of four that few accumulators do not
    hide), loads (two a cycle), all multiplied by the number of tiles, whose overlap counts; the stores; and what is
    read from beyond the near caches again and again.
    """
    steps, tiles, loads, stores = _work(task, schedule, unit)
    sums = schedule.accumulators
    per_step = max(sums / 2, loads / 2, 4.0 if sums < 8 else 0.0)
    return tiles * (steps * per_step + stores + 10) + _far_bytes(task, schedule, unit) / FAR_BYTES_PER_CYCLE


def _far_bytes(task: Task, schedule: Schedule, unit: VectorUnit) -> float:
    """Bytes that do not stay near between two passes of the outer loop over tiles: weights, or the input."""
    if isinstance(task, DenseTask):
        outputs, positions, source = task.columns, task.rows, task.rows * task.inner * ITEM
        per_tile, places = schedule.channels * unit.lanes, schedule.rows
    else:
        outputs, positions = task.group_filters, math.prod(task.output_size)
        source = math.prod(task.input_shape) * ITEM
        wide = schedule.kind != "packed"
        per_tile = schedule.channels * (1 if wide else unit.lanes)
        places = schedule.rows * schedule.columns * (unit.lanes if wide else 1)
    weights = math.prod(task.weight_shape) * ITEM
    filter_passes, place_passes = math.ceil(outputs / per_tile), math.ceil(positions / places)
    if schedule.order == "inner":  # all weights for each place
        return weights * place_passes if weights > NEAR_BYTES else weights
    own = weights / filter_passes  # the weights of one tile, for each place; the whole input for each such tile
    again = source * filter_passes if source > NEAR_BYTES else source
    return again + (weights * place_passes if own > NEAR_BYTES else weights)


def _work(task: Task, schedule: Schedule, unit: VectorUnit) -> tuple[float, int, float, float]:
    """Steps of the reduction, tiles, loads per step, and cycles of stores per tile."""
    lanes = unit.lanes
    tile = (schedule.channels, schedule.rows, schedule.columns)
    if isinstance(task, DenseTask):
        tiles = math.ceil(task.columns / (tile[0] * lanes)) * math.ceil(task.rows / tile[1])
        # Weights are read once per tile of rows, from far away.
        return task.inner / tile[2], tiles, (tile[0] * 2 + tile[1]) * tile[2], tile[0] * tile[1] * 2
    down, right = plane(task)
    steps = math.prod(task.weight_shape[1:])
    if schedule.kind == "packed":
        tiles = math.ceil(task.group_filters / (tile[0] * lanes)) * task.groups * task.batch
        tiles *= math.ceil(down / tile[1]) * math.ceil(right / tile[2])
        return steps, tiles, tile[0] + tile[1] * tile[2], math.prod(tile) * lanes * 1.5
    tiles = math.ceil(task.group_filters / tile[0]) * task.groups * task.batch
    tiles *= math.ceil(down / tile[1]) * math.ceil(right / (tile[2] * lanes))
    short = right < lanes
    loads = tile[1] * tile[2] if schedule.kind == "depthwise" else tile[0] + tile[1] * tile[2]
    return steps, tiles, loads, math.prod(tile) * (lanes if short else 1.5)

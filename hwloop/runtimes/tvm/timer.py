"""Times schedules: here, or wherever somebody measures artifacts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from hwloop.runtimes.tvm import kernels
from hwloop.runtimes.tvm.extra import load
from hwloop.runtimes.tvm.schedule import Schedule
from hwloop.runtimes.tvm.target import TvmTarget
from hwloop.runtimes.tvm.task import ConvTask, Task

REPEATS = 5
BUNDLE_S = 0.001
"""Runs are bundled until they last this long."""


class Timer(Protocol):
    """Times schedules of one task."""

    def __call__(self, task: Task, schedules: Sequence[Schedule]) -> list[float]:
        """Microseconds of each schedule; infinite for one that cannot be compiled or run."""
        ...


class HostTimer:
    """Compiles and runs schedules in this process, one thread, and takes the shortest of a few bundles of runs.

    The shortest, and in the thread's own processor time, because all that other programs on the machine can do is to
    make a run longer, and schedules of one task do the same work. The bundles of all schedules take turns.
    """

    def __init__(self, target: TvmTarget, clock: Callable[[], float] = time.thread_time) -> None:
        """Time for `target`, which must be this machine, by `clock` (seconds)."""
        if not target.host:
            raise ValueError(f"{target.text} is not this machine: its schedules are timed as artifacts on the device")
        self._target, self._clock = target, clock
        load().get_global_func("runtime.config_threadpool")(1, 1)

    def __call__(self, task: Task, schedules: Sequence[Schedule]) -> list[float]:
        """See `Timer`."""
        runs = [self._prepare(task, schedule) for schedule in schedules]
        bundles = [0 if run is None else self._bundle(run) for run in runs]
        best = [math.inf] * len(runs)
        for _ in range(REPEATS):
            for index, run in enumerate(runs):
                if run is not None:
                    best[index] = min(best[index], self._seconds(run, bundles[index]) / bundles[index] * 1e6)
        return best

    def _bundle(self, run: Callable[[], object]) -> int:
        """How many runs last `BUNDLE_S`, after a warm-up."""
        count = 1
        while self._seconds(run, count) < BUNDLE_S and count < 10_000:
            count *= 2
        return count

    def _seconds(self, run: Callable[[], object], count: int) -> float:
        began = self._clock()
        for _ in range(count):
            run()
        return self._clock() - began

    def _prepare(self, task: Task, schedule: Schedule) -> Callable[[], object] | None:
        tvm = load()
        lanes = self._target.unit.lanes
        try:
            compiled = tvm.compile(kernels.build(task, schedule, lanes, "main"), self._target.to_tvm())
        except Exception:  # whatever a pass of TVM or LLVM raises: this schedule is none
            return None
        random = np.random.default_rng(0)
        arrays = [random.standard_normal(task.input_shape, dtype=np.float32)]
        weight = random.standard_normal(task.weight_shape, dtype=np.float32)
        arrays.append(kernels.pack(task, schedule, lanes, weight))
        if task.epilogue.bias:
            channels = task.filters if isinstance(task, ConvTask) else task.columns
            arrays.append(random.standard_normal(channels, dtype=np.float32))
        if task.epilogue.residual:
            arrays.append(random.standard_normal(task.output_shape, dtype=np.float32))
        arrays.append(np.zeros(task.output_shape, np.float32))
        values = [tvm.runtime.tensor(array, tvm.cpu()) for array in arrays]
        return partial(compiled["main"], *values)

"""Finds the schedule of a task: from records, from a similar task's, or by a small measured search.

The candidates are few (tile sizes that fit the registers), so the search is short: what was best for the most similar
tasks first, then the best guesses of `schedule.estimate`, then the neighbours of the best seen, each timed once and the
best few once more against each other.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from hwloop.runtimes.tvm.records import Records, Timings
from hwloop.runtimes.tvm.schedule import Schedule, VectorUnit, candidates
from hwloop.runtimes.tvm.task import Task
from hwloop.runtimes.tvm.timer import Timer

Source = Literal["measured", "transferred", "estimated"]
"""Where a schedule comes from: timed for this very task; best for a similar one; a guess."""

FINALISTS = 3
TRANSFERRED = 3


@dataclass(frozen=True)
class Choice:
    """The schedule that a task gets.

    Attributes:
        schedule: the best known.
        source: how it is known.
        trials: schedules that were timed for this task.
    """

    schedule: Schedule
    source: Source
    trials: int


@dataclass(frozen=True)
class Effort:
    """What a search may cost.

    Attributes:
        trials: per task.
        seconds: for all tasks together.
    """

    trials: int = 12
    seconds: float = 600.0


class Tuner:
    """Chooses schedules for one target."""

    def __init__(self, unit: VectorUnit, records: Records) -> None:
        """Choose for processors with `unit`, by what `records` knows."""
        self._unit, self._records = unit, records

    def choose(self, task: Task) -> Choice:
        """The best schedule known without timing anything."""
        plain = task.plain
        known = self._records.timings(plain.key)
        allowed = candidates(plain, self._unit)
        usable = {one: us for one, us in known.items() if math.isfinite(us) and one in allowed}
        if usable:
            return Choice(min(usable, key=usable.__getitem__), "measured", len(known))
        similar = self._transferred(plain, allowed)
        if similar:
            return Choice(similar[0], "transferred", 0)
        return Choice(allowed[0], "estimated", 0)

    def tune(
        self, tasks: Iterable[Task], timer: Timer, effort: Effort, clock: Callable[[], float] = time.monotonic
    ) -> float:
        """Time schedules until every task has had its trials or the time is over.

        Tasks with the most work come first, so that a budget that runs out leaves the cheap ones to transfer.

        Args:
            tasks: what will be compiled, as often as it occurs; the same geometry is timed once.
            timer: times schedules on the target.
            effort: limits; a task that was begun is finished, which takes seconds.
            clock: seconds.

        Returns:
            Seconds spent.
        """
        began = clock()
        count = Counter(task.plain for task in tasks)
        for task in sorted(count, key=lambda one: (-one.macs * count[one], one.key)):
            if clock() - began >= effort.seconds:
                break
            self._search(task, timer, effort.trials)
        return clock() - began

    def _search(self, task: Task, timer: Timer, trials: int) -> None:
        known = self._records.timings(task.key)
        allowed = candidates(task, self._unit)
        trials = min(trials, len(allowed))
        if len(known) >= trials:
            return
        ranked = list(dict.fromkeys([*self._transferred(task, allowed), *allowed]))
        while len(known) < trials:
            rest = [one for one in ranked if one not in known]
            if len(known) >= trials // 2:  # the second half of the trials goes to the neighbours of the best
                best = min(known, key=known.__getitem__)
                rest.sort(key=lambda one: distance(one, best))
                batch = rest[: max(1, (trials - len(known)) // 2)]
            else:
                batch = rest[: (trials + 1) // 2 - len(known)]
            self._time(task, batch, timer)
            known = self._records.timings(task.key)
        finalists = sorted(known, key=known.__getitem__)[:FINALISTS]
        self._time(task, finalists, timer)

    def _time(self, task: Task, schedules: list[Schedule], timer: Timer) -> None:
        for schedule, us in zip(schedules, timer(task, schedules), strict=True):
            self._records.add(task.key, schedule, us)

    def _transferred(self, task: Task, allowed: list[Schedule]) -> list[Schedule]:
        """The best schedules of similar tasks, the most similar first, that fit this one."""
        found: list[tuple[float, Schedule]] = []
        for key in self._records.tasks():
            apart = difference(task.key, key)
            timings: Timings = self._records.timings(key)
            if key == task.key or not math.isfinite(apart) or not timings:
                continue
            best = min(timings, key=timings.__getitem__)
            if best in allowed and math.isfinite(timings[best]):
                found.append((apart, best))
        ordered = dict.fromkeys(one for _, one in sorted(found, key=lambda pair: (pair[0], pair[1].text)))
        return list(ordered)[:TRANSFERRED]


def distance(left: Schedule, right: Schedule) -> float:
    """How many steps of tile sizes lie between two schedules."""
    if left.kind != right.kind:
        return 10.0
    pairs = zip((left.channels, left.rows, left.columns), (right.channels, right.rows, right.columns), strict=True)
    return sum(abs(math.log2(one / other)) for one, other in pairs) + 0.5 * (left.order != right.order)


def difference(left: str, right: str) -> float:
    """How different two tasks are, by their keys: the sum of the ratios of their sizes, in powers of two.

    Infinite for another operation, kernel, stride, dilation, or one depthwise and the other not.
    """
    one, other = _sizes(left), _sizes(right)
    if one[0] != other[0]:
        return math.inf
    return sum(abs(math.log2(a / b)) for a, b in zip(one[1], other[1], strict=True))


def _sizes(key: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """What must be equal, and what may differ, of a key."""
    kind, shapes, *geometry = key.split(" ")
    before, after = (tuple(map(int, shape.split("x"))) for shape in shapes.split(">"))
    if kind != "conv":
        return (kind, "one row" if before[-2] == 1 else "rows"), (*before, *after)
    groups = int(next(part[1:] for part in geometry if part.startswith("g")))
    grouping = "depthwise" if groups == before[1] == after[1] > 1 else str(groups)
    fixed = tuple(part for part in geometry if part[0] in "ksd")
    return (kind, grouping, *fixed), (*before, *after)

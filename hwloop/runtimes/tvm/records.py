"""What was timed: one line of JSON per schedule that was tried, kept per target and used again.

::

    {"target": "x86_64-linux-gnu znver3", "task": "conv 1x16x32x32>…", "schedule": "direct 4x1x2 outer", "us": 58.1}
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

from hwloop.errors import DataError
from hwloop.runtimes.tvm.schedule import Schedule

Timings = dict[Schedule, float]
"""Microseconds by schedule; infinite for what failed."""


class Records:
    """The timings of one target, in a file that others may extend with other targets'.

    A line that a killed process left unfinished is passed over, and the next begins on a line of its own.
    """

    def __init__(self, path: Path | None, target: str) -> None:
        """Read the file.

        Args:
            path: of the file; it need not exist. None keeps records in memory only.
            target: `TvmTarget.text`, and the device where several have the same processor.

        Raises:
            DataError: a line other than the last is damaged.
        """
        self.path, self.target = path, target
        self._timings: dict[str, Timings] = {}
        for task, schedule, us in self._read():
            self._note(task, schedule, us)

    def timings(self, task: str) -> Timings:
        """What is known of a task (`ConvTask.key`)."""
        return dict(self._timings.get(task, {}))

    def tasks(self) -> tuple[str, ...]:
        """Tasks of which something is known."""
        return tuple(self._timings)

    def add(self, task: str, schedule: Schedule, us: float) -> None:
        """Note a timing, on disk before this returns; of one schedule the shortest counts."""
        self._note(task, schedule, us)
        if self.path is None:
            return
        line = {"target": self.target, "task": task, "schedule": schedule.text, "us": us if math.isfinite(us) else None}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            size = file.seek(0, 2)
            file.seek(max(size - 1, 0))
            torn = size > 0 and file.read(1) != b"\n"
            file.write((b"\n" if torn else b"") + json.dumps(line).encode() + b"\n")

    def _note(self, task: str, schedule: Schedule, us: float) -> None:
        known = self._timings.setdefault(task, {})
        known[schedule] = min(us, known.get(schedule, math.inf))

    def _read(self) -> Iterator[tuple[str, Schedule, float]]:
        if self.path is None or not self.path.exists():
            return
        for number, line in enumerate(self.path.read_text().splitlines(), 1):
            try:
                found = json.loads(line)
                entry = (str(found["task"]), Schedule.parse(found["schedule"]), found["us"])
            except (ValueError, KeyError, TypeError) as error:
                if line.endswith("}"):
                    raise DataError(f"{self.path}, line {number}: is no record of a schedule ({error})") from error
                continue  # torn by a kill
            if found.get("target") == self.target:
                yield entry[0], entry[1], math.inf if entry[2] is None else float(entry[2])

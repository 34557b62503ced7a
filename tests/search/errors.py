"""Error functions that worker processes can load, with faults that strike once or always."""

from __future__ import annotations

import os
import resource
import signal
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwloop.errors import ModelError
from hwloop.pruning import Candidate
from tests.search.conftest import error_of


def strikes_first(marks: Path, candidate: Candidate) -> bool:
    """Whether this is the first time, over all processes, that this is asked for a candidate."""
    try:
        (marks / "-".join(map(str, candidate.widths))).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@dataclass(frozen=True)
class Told:
    """Writes down, durably, who was evaluated; answers when so many processes have begun to evaluate."""

    path: Path
    processes: int = 1

    def __call__(self, candidate: Candidate) -> float:
        with self.path.open("a") as stream:
            stream.write(f"{candidate.widths} {os.getpid()}\n")
        deadline = time.monotonic() + 60
        while len(self.pids()) < self.processes and time.monotonic() < deadline:
            time.sleep(0.02)
        return error_of(candidate)

    def pids(self) -> set[str]:
        """Of the processes that have evaluated."""
        return {line.rsplit(" ", 1)[1] for line in self.path.read_text().splitlines()}


@dataclass(frozen=True)
class Mortal:
    """Dies, hangs or runs out of memory when it first sees certain candidates; dies of the poison always."""

    marks: Path
    dies: Candidate | None = None
    hangs: Candidate | None = None
    lacks: Candidate | None = None
    poison: Candidate | None = None

    def __call__(self, candidate: Candidate) -> float:
        if candidate == self.poison:
            os.kill(os.getpid(), signal.SIGSEGV)
        if candidate in (self.dies, self.hangs, self.lacks) and strikes_first(self.marks, candidate):
            if candidate == self.dies:
                os.kill(os.getpid(), signal.SIGKILL)
            if candidate == self.hangs:
                time.sleep(600)
            raise MemoryError
        return error_of(candidate)


@dataclass(frozen=True)
class Refusing:
    """Refuses everything, as a network that cannot be sliced does, or as a function with a mistake."""

    kind: str

    def __call__(self, candidate: Candidate) -> float:
        if self.kind == "model":
            raise ModelError("no such network")
        raise ZeroDivisionError("a mistake")


@dataclass(frozen=True)
class Unloadable:
    """Ends the process that loads it."""

    def __call__(self, candidate: Candidate) -> float:
        return 0.0

    def __setstate__(self, state: object) -> None:
        os._exit(7)

    def __getstate__(self) -> dict[str, int]:
        return {"something": 1}


@dataclass(frozen=True)
class LoadedOnce:
    """Loads in one process only and ends all others; waits with its answers until two more of them have ended."""

    marks: Path

    def __call__(self, candidate: Candidate) -> float:
        awaited, deadline = len(list(self.marks.iterdir())) + 2, time.monotonic() + 15  # one may be under way already
        while len(list(self.marks.iterdir())) < awaited and time.monotonic() < deadline:
            time.sleep(0.02)
        return error_of(candidate)

    def __setstate__(self, state: dict[str, Path]) -> None:
        object.__setattr__(self, "marks", state["marks"])
        try:
            (self.marks / "loaded").touch(exist_ok=False)
        except FileExistsError:
            (self.marks / str(os.getpid())).touch()
            os._exit(7)


@dataclass(frozen=True)
class Slow:
    """Takes a while, so that faults strike in the middle; leaves a mark for each evaluation."""

    marks: Path
    seconds: float = 0.05

    def __call__(self, candidate: Candidate) -> float:
        (self.marks / "-".join(map(str, candidate.widths))).touch()
        time.sleep(self.seconds)
        return error_of(candidate)


@dataclass(frozen=True)
class Paging:
    """Page faults of the median allocation of a megabyte: 256 when what was freed had gone back to the system."""

    def __call__(self, candidate: Candidate) -> float:
        faults = []
        for _ in range(25):
            before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
            np.ones(2**17)
            faults.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)
        return statistics.median(faults)

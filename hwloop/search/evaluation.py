"""The expensive part of a search: the error of each candidate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

Widths = tuple[int, ...]


@dataclass(frozen=True)
class ErrorResult:
    """One candidate of a batch, evaluated.

    Attributes:
        index: its place in the batch.
        error: share of wrong answers.
        seconds: how long it took.
    """

    index: int
    error: float
    seconds: float


class BatchEvaluator(Protocol):
    """Evaluates batches: one after another here, many at once on other machines."""

    def evaluate(self, batch: Sequence[Widths]) -> Iterable[ErrorResult]:
        """Yield each candidate's result as soon as it is there, in any order; each exactly once."""
        ...


@dataclass(frozen=True)
class OneByOne:
    """A `BatchEvaluator` that calls a function for one candidate after the other.

    Attributes:
        error: widths to error.
        clock: seconds, for the records.
    """

    error: Callable[[Widths], float]
    clock: Callable[[], float] = time.perf_counter

    def evaluate(self, batch: Sequence[Widths]) -> Iterable[ErrorResult]:
        """See `BatchEvaluator.evaluate`."""
        for index, widths in enumerate(batch):
            begin = self.clock()
            error = float(self.error(widths))
            yield ErrorResult(index, error, self.clock() - begin)

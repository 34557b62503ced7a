"""The expensive part of a search: the error of each candidate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hwloop.pruning import Candidate


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

    def evaluate(self, batch: Sequence[Candidate]) -> Iterable[ErrorResult]:
        """Yield each candidate's result as soon as it is there, in any order; each exactly once."""
        ...


@dataclass(frozen=True)
class OneByOne:
    """A `BatchEvaluator` that calls a function for one candidate after the other.

    Attributes:
        error: candidate to error.
        clock: seconds, for the records.
    """

    error: Callable[[Candidate], float]
    clock: Callable[[], float] = time.perf_counter

    def evaluate(self, batch: Sequence[Candidate]) -> Iterable[ErrorResult]:
        """See `BatchEvaluator.evaluate`."""
        for index, candidate in enumerate(batch):
            begin = self.clock()
            error = float(self.error(candidate))
            yield ErrorResult(index, error, self.clock() - begin)

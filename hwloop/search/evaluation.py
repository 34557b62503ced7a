"""The expensive part of a search: the error of each candidate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hwloop.pruning import Candidate

ErrorFunction = Callable[[Candidate], float]
"""A candidate's error: share of wrong answers; a function of the candidate alone, to the bit."""


@dataclass(frozen=True)
class ErrorResult:
    """One candidate of a batch, evaluated.

    Attributes:
        index: its place in the batch.
        error: share of wrong answers; nan when it could not be evaluated.
        seconds: how long it took.
        failure: why it could not be evaluated, after as many attempts as the evaluator makes; empty when it could.
    """

    index: int
    error: float
    seconds: float
    failure: str = ""


class BatchEvaluator(Protocol):
    """Evaluates batches: one after another here, many at once in other processes or on other machines."""

    def evaluate(self, batch: Sequence[Candidate]) -> Iterable[ErrorResult]:
        """Yield each candidate's result as soon as it is there, in any order; each exactly once.

        Raises:
            EvaluationError: whatever evaluates is lost for good; what was yielded before stands.
        """
        ...


class Estimate(Protocol):
    """What a judge says of a candidate."""

    @property
    def error(self) -> float:
        """Share of wrong answers."""
        ...


class Judge(Protocol):
    """Estimates errors; `hwloop.pruning.ErrorEstimator` is one."""

    def estimate(self, candidate: Candidate) -> Estimate:
        """Return the estimate of a candidate."""
        ...


@dataclass(frozen=True)
class ErrorOf:
    """An `ErrorFunction` from a judge; can be sent to other processes if the judge can.

    Attributes:
        judge: that estimates.
    """

    judge: Judge

    def __call__(self, candidate: Candidate) -> float:
        """Return the share of wrong answers."""
        return self.judge.estimate(candidate).error


@dataclass(frozen=True)
class OneByOne:
    """A `BatchEvaluator` that calls a function for one candidate after the other, in this process.

    Attributes:
        error: candidate to error.
        clock: seconds, for the records.
    """

    error: ErrorFunction
    clock: Callable[[], float] = time.perf_counter

    def evaluate(self, batch: Sequence[Candidate]) -> Iterable[ErrorResult]:
        """See `BatchEvaluator.evaluate`."""
        for index, candidate in enumerate(batch):
            begin = self.clock()
            error = float(self.error(candidate))
            yield ErrorResult(index, error, self.clock() - begin)

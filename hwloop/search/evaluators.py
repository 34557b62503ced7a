"""Which evaluator a search has: this process, several processes of this machine, or a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from hwloop.errors import UserError
from hwloop.pruning import Candidate
from hwloop.search.evaluation import BatchEvaluator, ErrorFunction, ErrorResult, OneByOne
from hwloop.search.workers import LocalWorkers

WORTH_S = 6.0
"""What is left of a batch must take so long before workers are started: they take a few seconds to load torch."""


class WhenWorthIt:
    """A `BatchEvaluator` that evaluates here until a batch takes long enough for workers to pay; a context manager.

    Where a candidate is evaluated changes nothing of its result, so neither does this choice. A function that cannot be
    sent to another process is evaluated here.

    Args:
        error: candidate to error, with as many threads as each worker has.
        workers: starts them.
        worth_s: see `WORTH_S`.
    """

    def __init__(self, error: ErrorFunction, workers: Callable[[], LocalWorkers], *, worth_s: float = WORTH_S) -> None:
        self._here = OneByOne(error)
        self._start: Callable[[], LocalWorkers] | None = workers
        self._worth_s = worth_s
        self._many: BatchEvaluator | None = None
        self._stack = ExitStack()

    def evaluate(self, batch: Sequence[Candidate]) -> Iterator[ErrorResult]:
        """See `BatchEvaluator.evaluate`."""
        done = 0
        if self._many is None:
            for result in self._here.evaluate(batch):
                yield result
                done += 1
                if result.seconds * (len(batch) - done) > self._worth_s and self._begin():
                    break
        if self._many is not None:
            for result in self._many.evaluate(batch[done:]):
                yield ErrorResult(result.index + done, result.error, result.seconds, result.failure)

    def _begin(self) -> bool:
        """Start the workers, if that was not tried before; return whether there are any now."""
        start, self._start = self._start, None
        if start is not None:
            with suppress(UserError):
                self._many = self._stack.enter_context(start())
        return self._many is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()


@contextmanager
def open_evaluator(
    error: ErrorFunction, workers: int, cluster: str | None = None, paths: Sequence[Path] = ()
) -> Iterator[BatchEvaluator]:
    """The evaluator of a search; what it started ends with the block.

    Args:
        error: candidate to error, in one thread.
        workers: local processes; with 1 everything is evaluated in this one.
        cluster: address of a dask scheduler, instead.
        paths: where the function's own modules are found.

    Raises:
        UserError: dask is not installed.
    """
    if cluster is not None:
        from hwloop.search.cluster import DaskCluster  # the extra `dask`

        with DaskCluster(error, cluster, paths=paths) as found:
            yield found
    elif workers == 1:
        yield OneByOne(error)
    else:
        with WhenWorthIt(error, lambda: LocalWorkers(error, workers, paths=paths)) as found:
            yield found

"""Evaluations that outlive a search: what one has paid for, another one on the same space gets for nothing.

The searches of a comparison ask for many of the same candidates. An error depends on the candidate and on the
conditions under which it was judged (weights, data, the judge's settings), so it is kept under both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence

from hwloop.errors import StudyError
from hwloop.pruning import Candidate
from hwloop.search.evaluation import BatchEvaluator, ErrorResult
from hwloop.search.record import Journal


class Cached:
    """A `BatchEvaluator` that asks another one only for what is not in its journal.

    A candidate that could not be evaluated is not kept: another search tries it again. A cached result says how long
    the evaluation took when it was made, so that a search's cost in evaluations and seconds stays comparable.

    Args:
        inner: evaluates what is new.
        journal: of this and earlier searches; one process at a time has it.
        conditions: all that an error depends on besides the candidate.

    Raises:
        StudyError: the journal holds something else.
    """

    def __init__(self, inner: BatchEvaluator, journal: Journal, conditions: Mapping[str, str]) -> None:
        self._inner = inner
        self._journal = journal
        text = json.dumps(dict(conditions), sort_keys=True)
        self._conditions = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._known: dict[Candidate, tuple[float, float]] = {}
        for record in journal.records:
            try:
                candidate = Candidate(tuple(map(int, record["widths"])), tuple(map(str, record["removed"])))
                if record["conditions"] == self._conditions:
                    self._known[candidate] = (float(record["error"]), float(record["seconds"]))
            except (KeyError, TypeError, ValueError) as error:
                raise StudyError(f"the cache of evaluations holds another record: {error!r}") from error

    def __len__(self) -> int:
        return len(self._known)

    def evaluate(self, batch: Sequence[Candidate]) -> Iterator[ErrorResult]:
        """See `BatchEvaluator.evaluate`."""
        fresh = []
        for index, candidate in enumerate(batch):
            if candidate in self._known:
                yield ErrorResult(index, *self._known[candidate])
            else:
                fresh.append(index)
        if not fresh:
            return
        for result in self._inner.evaluate([batch[index] for index in fresh]):
            index = fresh[result.index]
            if not result.failure:
                self._keep(batch[index], result)
            yield ErrorResult(index, result.error, result.seconds, result.failure)

    def _keep(self, candidate: Candidate, result: ErrorResult) -> None:
        self._known[candidate] = (result.error, result.seconds)
        self._journal.append(
            {
                "conditions": self._conditions,
                "widths": list(candidate.widths),
                "removed": list(candidate.removed),
                "error": result.error,
                "seconds": result.seconds,
            }
        )

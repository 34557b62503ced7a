"""Fidelities against each other: the same candidates, estimated cheaply and dearly, journalled one by one."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hwloop.errors import StudyError
from hwloop.progress import Progress
from hwloop.pruning.candidate import Candidate
from hwloop.pruning.estimate import ErrorEstimate
from hwloop.pruning.evaluation import ErrorEstimator
from hwloop.pruning.ranking import Agreement, agreement
from hwloop.pruning.space import PruningSpace


class Journal(Protocol):
    """Append-only records; `hwloop_agent.journal.Journal` is one."""

    records: list[dict[str, Any]]

    def append(self, rec: dict[str, Any]) -> int:
        """Write one record, durably."""
        ...


@dataclass(frozen=True)
class Contender:
    """A fidelity that takes part.

    Attributes:
        estimator: of errors.
        once_s: what it cost before its first estimate (the training of shared weights), in seconds.
    """

    estimator: ErrorEstimator
    once_s: float = 0.0


@dataclass(frozen=True)
class Judged:
    """What one fidelity said of all candidates.

    Attributes:
        fidelity: its name.
        estimates: one per candidate.
        agreement: of its ranking with the dearest fidelity's; None for that one itself.
        once_s: see `Contender`.
    """

    fidelity: str
    estimates: tuple[ErrorEstimate, ...]
    agreement: Agreement | None
    once_s: float

    @property
    def seconds(self) -> float:
        """Return the median cost of one estimate."""
        return statistics.median(estimate.seconds for estimate in self.estimates)

    @property
    def median_error(self) -> float:
        """Return the median of the candidates' errors."""
        return statistics.median(estimate.error for estimate in self.estimates)


def compare(
    contenders: Sequence[Callable[[], Contender]],
    candidates: Sequence[Candidate],
    space: PruningSpace,
    journal: Journal,
    progress: Progress,
    context: Mapping[str, str],
) -> tuple[Judged, ...]:
    """Estimate all candidates at several fidelities, and compare each one's ranking with the last one's.

    An estimate that the journal holds, under the same conditions, is not made again.

    Args:
        contenders: make the fidelities, one after the other when their turn comes; the last one is the truth.
        candidates: of one band of costs.
        space: for the candidates' texts.
        journal: of estimates; each is in it before the next one begins.
        progress: is told of every estimate.
        context: what else the estimates depend on, such as the data.

    Raises:
        UserError: Too few candidates.
        StudyError: The journal holds something else.
    """
    found: list[tuple[str, tuple[ErrorEstimate, ...], float]] = []
    for make in contenders:
        contender = make()
        estimator = contender.estimator
        conditions = {**context, **estimator.conditions}
        known = _known(journal, conditions)
        texts = [space.text(candidate) for candidate in candidates]
        done = sum(text in known for text in texts)
        with progress.step(f"judged at {estimator.fidelity}", len(texts), done) as step:
            for text, candidate in zip(texts, candidates, strict=True):
                if text in known:
                    continue
                known[text] = estimator.estimate(candidate)
                journal.append(_record(text, conditions, known[text]))
                step.advance(note=f"error {known[text].error:.3f}: {text}")
        found.append((estimator.fidelity, tuple(known[text] for text in texts), contender.once_s))
    truth = [estimate.error for estimate in found[-1][1]]
    return tuple(
        Judged(
            fidelity,
            estimates,
            agreement([estimate.error for estimate in estimates], truth) if place < len(found) - 1 else None,
            once_s,
        )
        for place, (fidelity, estimates, once_s) in enumerate(found)
    )


def _record(text: str, conditions: Mapping[str, str], estimate: ErrorEstimate) -> dict[str, Any]:
    return {
        "kind": "estimate",
        "candidate": text,
        "conditions": dict(conditions),
        "errors": estimate.errors,
        "n": estimate.n,
        "seconds": estimate.seconds,
    }


def _known(journal: Journal, conditions: Mapping[str, str]) -> dict[str, ErrorEstimate]:
    """The estimates that were made under these conditions, by the candidate's text."""
    try:
        return {
            str(record["candidate"]): ErrorEstimate(
                conditions["fidelity"], int(record["errors"]), int(record["n"]), float(record["seconds"])
            )
            for record in journal.records
            if record["kind"] == "estimate" and record["conditions"] == conditions
        }
    except (KeyError, TypeError, ValueError) as error:
        raise StudyError(f"the journal of estimates holds a record that is none: {error!r}") from error

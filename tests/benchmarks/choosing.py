"""One rule for every method: which network of its front is taken for a target of latency, by measurements."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hwloop.measurement import Measurement
from hwloop.pruning import Candidate
from hwloop.search import Evaluated

Predict = Callable[[Sequence[Candidate]], NDArray[np.float64]]
"""Latencies in ms."""

Measure = Callable[[Collection[Candidate]], Mapping[Candidate, Measurement]]
Refit = Callable[[Mapping[Candidate, Measurement]], Predict]


@dataclass
class Choice:
    """What one method offers at one target.

    Attributes:
        method: its name.
        target_ms: latency that must be met.
        front: what it found, with the error first among the values.
        tried: networks that were measured, in this order.
        taken: the first of them that met the target; None: no network of the front does, or none that was tried.
    """

    method: str
    target_ms: float
    front: Sequence[Evaluated]
    tried: list[Evaluated] = field(default_factory=list)
    taken: Evaluated | None = None

    def next(self, predict: Predict) -> Evaluated | None:
        """The network with the least estimated error of those that are predicted to meet the target, not tried yet."""
        known = {one.candidate for one in self.tried}
        left = [one for one in self.front if one.candidate not in known]
        if not left:
            return None
        predicted = predict([one.candidate for one in left])
        meeting = [one for one, latency in zip(left, predicted, strict=True) if latency <= self.target_ms]
        return min(meeting, key=lambda one: one.values[0], default=None)


def settle_choices(choices: Sequence[Choice], tries: int, predict: Predict, measure: Measure, refit: Refit) -> None:
    """Measure the next network of every open choice, until each has one that meets its target, or nothing left to try.

    What was measured teaches the predictor that says what is tried next; a method's numbers thereby help the others.

    Args:
        choices: one per method and target.
        tries: networks that may be measured for each.
        predict: of the predictor as the search had it.
        measure: networks on the device; those that it knows already cost nothing.
        refit: a predictor that knows everything measured so far.
    """
    measured: dict[Candidate, Measurement] = {}
    open_ = list(choices)
    while open_:
        proposed = {id(choice): choice.next(predict) for choice in open_ if len(choice.tried) < tries}
        wanted = [one.candidate for one in proposed.values() if one is not None]
        if not wanted:
            return
        measured |= measure(dict.fromkeys(wanted))
        for choice in open_:
            one = proposed.get(id(choice))
            if one is not None:
                choice.tried.append(one)
                found = measured[one.candidate]
                if found.usable and found.latency_ms <= choice.target_ms:
                    choice.taken = one
        open_ = [choice for choice in open_ if choice.taken is None and proposed.get(id(choice)) is not None]
        predict = refit(measured)

"""Adaptive sampling: measure a little, look where it is worth measuring more, until it is good enough or paid for.

The loop knows names only: what they stand for, how they are measured and what is worth measuring is the caller's
(`hwloop.predictors.acquisition` decides). Decisions follow from measurements alone, and measurements are in the trial
store: a loop that was stopped takes the same way again, without measuring anything twice, and goes on where it was.
What it knew after each round, the curve of error against measurements, is kept as events of the store.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from zlib import crc32

from hwloop.errors import UserError
from hwloop.measurement.store import EVENT, TrialStore

ROUND = "adaptive round"


@dataclass(frozen=True)
class Limits:
    """When to stop.

    Attributes:
        measurements: at most so many.
        seconds: no round begins after so much time has been spent on measuring.
        error: stop when the estimated error is at most this; 0 to spend everything.
    """

    measurements: int = 430
    seconds: float = 600.0
    error: float = 0.0

    def __post_init__(self) -> None:
        """Refuse limits that stop before the first round.

        Raises:
            UserError: no measurement or no time is allowed, or the error is negative.
        """
        if self.measurements < 1 or not self.seconds > 0 or not self.error >= 0:
            raise UserError(
                f"{self.measurements} measurements in {self.seconds:g} s to an error of {self.error:g}: allow at least"
                " one measurement and some time, and an error that is not negative"
            )


@dataclass(frozen=True)
class Step:
    """A decision.

    Attributes:
        error: what the predictor now expects of itself (0.05 is five per cent); inf when it cannot tell.
        wanted: names of what to measure next; empty when nothing more is worth it.
    """

    error: float
    wanted: Sequence[str] = ()


@dataclass(frozen=True)
class CurvePoint:
    """One point of the curve of error against measurements.

    Attributes:
        measurements: so far.
        seconds: spent on measuring so far, in all runs together.
        error: expected.
    """

    measurements: int
    seconds: float
    error: float


def sample_adaptively(
    start: Sequence[str],
    measure: Callable[[Sequence[str]], None],
    decide: Callable[[], Step],
    limits: Limits,
    store: TrialStore,
    clock: Callable[[], float] = time.monotonic,
) -> list[CurvePoint]:
    """Run the loop, or go on with it.

    Args:
        start: names of the first design.
        measure: measures names; at once where the store has them already.
        decide: looks at everything measured so far.
        limits: when to stop.
        store: where the rounds are noted.
        clock: in seconds; only differences count.

    Returns:
        The curve, a point per round.
    """
    spent = {(event["measurements"], event["digest"]): event["seconds"] for event in _rounds(store)}
    curve: list[CurvePoint] = []
    batch, count, seconds = list(dict.fromkeys(start))[: limits.measurements], 0, 0.0
    digest = 0
    while batch:
        count += len(batch)
        digest = crc32("\n".join(batch).encode(), digest)
        began = clock()
        measure(batch)
        # A round that an earlier run finished took its time then, not now.
        known = spent.get((count, digest))
        seconds = seconds + clock() - began if known is None else known
        step = decide()
        curve.append(CurvePoint(count, seconds, step.error))
        if known is None:
            error = step.error if math.isfinite(step.error) else None
            store.note(ROUND, digest=digest, **(asdict(curve[-1]) | {"error": error}))
        if step.error <= limits.error or seconds >= limits.seconds:
            break
        batch = list(dict.fromkeys(step.wanted))[: limits.measurements - count]
    return curve


def curve_of(store: TrialStore) -> list[CurvePoint]:
    """The curve that a store holds, whoever measured it."""
    return [
        CurvePoint(event["measurements"], event["seconds"], math.inf if event["error"] is None else event["error"])
        for event in _rounds(store)
    ]


def _rounds(store: TrialStore) -> list[dict[str, Any]]:
    return [event for event in store.events if event[EVENT] == ROUND]

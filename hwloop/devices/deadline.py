"""A timeout that is a moment, not a duration: every step gets one, and passing it along cannot extend it."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]


class Deadline:
    """`seconds` from now, on the monotonic clock."""

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._until = clock() + seconds

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(self._until - self._clock(), 0.0)

    @property
    def expired(self) -> bool:
        """Whether it has passed."""
        return self._clock() >= self._until

    def at_most(self, seconds: float) -> Deadline:
        """Return the earlier of this deadline and one in `seconds`."""
        return Deadline(min(seconds, self.remaining), self._clock)

"""What of a batch is still to be done, and how often each candidate has been tried. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Limits:
    """How long workers are borne with.

    Attributes:
        attempts: a candidate whose worker is lost, or that takes too long, is tried so often.
        timeout_s: that one evaluation may take; None for no limit.
        start_s: that workers may take until they are ready, or a lost cluster until it is back.
    """

    attempts: int = 3
    timeout_s: float | None = 600.0
    start_s: float = 120.0

    def deadline(self, began: float) -> float:
        """When an evaluation that began at a time of the same clock has taken too long."""
        return began + self.timeout_s if self.timeout_s is not None else float("inf")


@dataclass
class Backlog:
    """The candidates of a batch, by their index.

    Attributes:
        size: of the batch.
        attempts: after so many failures a candidate is given up.
    """

    size: int
    attempts: int
    _waiting: deque[int] = field(init=False)
    _failures: dict[int, int] = field(init=False, default_factory=dict)
    _finished: set[int] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self._waiting = deque(range(self.size))

    @property
    def is_done(self) -> bool:
        """Whether every candidate is finished or given up."""
        return len(self._finished) == self.size

    def take(self) -> int | None:
        """The next candidate to be evaluated; None when none waits."""
        return self._waiting.popleft() if self._waiting else None

    def finish(self, index: int) -> bool:
        """Note a result; False when there is one already."""
        if index in self._finished:
            return False
        self._finished.add(index)
        return True

    def put_back(self, index: int) -> None:
        """The candidate goes to the front again, without blame."""
        if index not in self._finished:
            self._waiting.appendleft(index)

    def fail(self, index: int) -> bool:
        """Note that an attempt failed: the candidate waits again, behind all others.

        Returns:
            Whether it has to be given up instead.
        """
        self._failures[index] = self._failures.get(index, 0) + 1
        if self._failures[index] >= self.attempts:
            return self.finish(index)
        self._waiting.append(index)
        return False

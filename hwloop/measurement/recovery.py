"""How a lost session is opened again: with growing, scattered pauses, and not for ever."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

#: The pause before each try to reconnect; after so many in a row without any progress the campaign gives up.
BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 16.0)

#: A pause is longer by up to this share, so that hosts which lost the same board do not all come back at once.
JITTER = 0.5


@dataclass
class Backoff:
    """Counts tries in a row.

    Attributes:
        rng: scatters the pauses.
        sleep: waits.
        tries: since the last progress.
    """

    rng: random.Random
    sleep: Callable[[float], None]
    tries: int = 0

    def progressed(self) -> None:
        """Something was measured: the next loss is a first one again."""
        self.tries = 0

    def next_pause_s(self) -> float | None:
        """Return how long to wait now, or None when it is time to give up."""
        if self.tries >= len(BACKOFF_S):
            return None
        pause_s = BACKOFF_S[self.tries] * (1 + JITTER * self.rng.random())
        self.tries += 1
        return pause_s

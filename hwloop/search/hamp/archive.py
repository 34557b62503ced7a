"""Everything that was evaluated: no point twice, and what each added to the front when it came."""

from __future__ import annotations

import moocore
import numpy as np
from numpy.typing import NDArray

from hwloop.search.hamp.selection.order import BEYOND

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Archive:
    """Points with their values, in the order of evaluation.

    Attributes:
        x: (n, v) canonical points.
        f: (n, m) values.
        violation: (n,) of constraints; 0 is feasible.
    """

    def __init__(self, variables: int, objectives: int) -> None:
        self.x: IntArray = np.zeros((0, variables), dtype=np.int64)
        self.f: FloatArray = np.zeros((0, objectives))
        self.violation: FloatArray = np.zeros(0)
        self._known: set[bytes] = set()

    def __len__(self) -> int:
        return len(self.x)

    def add(self, x: IntArray, f: FloatArray, violation: FloatArray) -> FloatArray:
        """Take (k, v) points in.

        Returns:
            (k,) what each adds to the hypervolume of the scaled feasible front, beside the archive before and the
            others; 0 for those that are dominated or infeasible.
        """
        gains = self._gains(f, violation)
        self.x = np.concatenate([self.x, x])
        self.f = np.concatenate([self.f, f])
        self.violation = np.concatenate([self.violation, violation])
        self.know(x)
        return gains

    def know(self, x: IntArray) -> None:
        """Take note of (k, v) points that have no values: they are not new any more, and teach nothing."""
        self._known.update(row.tobytes() for row in np.ascontiguousarray(x, dtype=np.int64))

    def correct(self, f: FloatArray, violation: FloatArray) -> None:
        """Replace the values of all points, in their order."""
        self.f, self.violation = f, violation

    def new(self, x: IntArray) -> IntArray:
        """The (k, v) points of x that are not in the archive, none twice, in their order."""
        keep, seen = [], set()
        for place, row in enumerate(np.ascontiguousarray(x, dtype=np.int64)):
            key = row.tobytes()
            if key not in self._known and key not in seen:
                seen.add(key)
                keep.append(place)
        return x[keep]

    def knows(self, x: IntArray) -> NDArray[np.bool_]:
        """(k,) which of (k, v) points are in the archive."""
        return np.array(
            [row.tobytes() in self._known for row in np.ascontiguousarray(x, dtype=np.int64)], dtype=np.bool_
        )

    @property
    def front(self) -> IntArray:
        """Places of the feasible points that no other dominates."""
        feasible = np.flatnonzero(self.violation <= 0)
        if not len(feasible):
            return feasible
        best = np.asarray(moocore.is_nondominated(self.f[feasible]), dtype=np.bool_)
        return feasible[best]

    def _gains(self, f: FloatArray, violation: FloatArray) -> FloatArray:
        gains = np.zeros(len(f))
        before = self.f[self.front]
        feasible = violation <= 0
        if not len(before) or not feasible.any():
            return gains
        union = np.concatenate([before, f[feasible]])
        best = moocore.is_nondominated(union)
        low, high = union[best].min(axis=0), union[best].max(axis=0)
        even = (union - low) / np.where(high > low, high - low, 1.0)
        own = np.zeros(len(union))
        own[best] = moocore.hv_contributions(even[best], ref=np.full(f.shape[1], BEYOND))
        gains[feasible] = own[len(before) :]
        return gains

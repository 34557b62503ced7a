"""What an algorithm may know of a problem beside its bounds: which variables belong together, and what is cheap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def as_given(x: IntArray) -> IntArray:
    """Points whose every variable counts."""
    return x


def nothing(x: IntArray) -> FloatArray:
    """No objectives of (n, v) points."""
    return np.zeros((len(x), 0))


@dataclass(frozen=True)
class Structure:
    """Which variables belong together.

    Attributes:
        units: positions of the variables of each unit (a residual block: its inner width and its flag), in the order
            of the network, so that neighbouring units are neighbours there. Every variable is in exactly one.
        canonical: (n, v) points to the points that stand for the same solutions: variables that do nothing (the
            width of a removed block) get one fixed value.
    """

    units: tuple[tuple[int, ...], ...]
    canonical: Callable[[IntArray], IntArray] = as_given

    @classmethod
    def of(cls, problem: Any) -> Structure:
        """What the problem says in `structure`; else every variable is a unit, in order."""
        said = getattr(problem, "structure", None)
        return said if isinstance(said, Structure) else cls(tuple((place,) for place in range(problem.n_var)))


@dataclass(frozen=True)
class Cheap:
    """Objectives that cost next to nothing: they are computed wherever a surrogate would guess them.

    Attributes:
        columns: their places among the objectives.
        values: (n, v) points to (n, len(columns)) values, the same that an evaluation gives.
    """

    columns: tuple[int, ...] = ()
    values: Callable[[IntArray], FloatArray] = nothing

    @classmethod
    def of(cls, problem: Any) -> Cheap:
        """What the problem says in `cheap`; else nothing is cheap."""
        said = getattr(problem, "cheap", None)
        return said if isinstance(said, Cheap) else cls()

"""Pruning as an integer problem that every pymoo algorithm understands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pymoo.core.problem import Problem

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class SearchSpace(Protocol):
    """The candidates; `hwloop.pruning.PruningSpace` is one."""

    @property
    def base(self) -> tuple[int, ...]:
        """Widths of the unpruned network, one per group."""
        ...

    def levels(self, group: int) -> tuple[int, ...]:
        """The widths that a group may have, ascending; the last is its base width."""
        ...

    def text(self, widths: tuple[int, ...]) -> str:
        """A candidate for people, unique."""
        ...


class PruningProblem(Problem):  # type: ignore[misc]  # pymoo has no types
    """Minimise objectives over the level that each group of channels has.

    Variable g is the index of group g's width in `space.levels(g)`: an integer from 0 (thinnest) to the last
    level (unpruned). All objectives are minimised; there are no constraints yet.

    Args:
        space: the candidates.
        names: of the objectives.
        assess: gives the (n, m) objective values of (n, G) widths; called once per generation with all its
            candidates.
    """

    def __init__(self, space: SearchSpace, names: tuple[str, ...], assess: Callable[[IntArray], FloatArray]) -> None:
        self.space = space
        self.names = names
        self._assess = assess
        self._levels = [np.asarray(space.levels(group), dtype=np.int64) for group in range(len(space.base))]
        upper = np.array([len(levels) - 1 for levels in self._levels], dtype=np.int64)
        super().__init__(
            n_var=len(self._levels),
            n_obj=len(names),
            xl=np.zeros(len(upper), dtype=np.int64),
            xu=upper,
            vtype=int,
        )

    @property
    def size(self) -> int:
        """Number of candidates."""
        count = 1
        for levels in self._levels:
            count *= len(levels)
        return count

    def widths(self, indices: IntArray) -> IntArray:
        """(n, G) widths of (n, G) level indices."""
        columns = [levels[indices[:, group]] for group, levels in enumerate(self._levels)]
        return np.stack(columns, axis=1)

    def nearest(self, shares: FloatArray) -> IntArray:
        """(n, G) indices of the levels nearest to (n, G) shares of the base widths (ties: thinner)."""
        wanted = shares * np.asarray(self.space.base, dtype=np.float64)
        columns = [
            np.abs(levels[None, :] - wanted[:, group, None]).argmin(axis=1) for group, levels in enumerate(self._levels)
        ]
        return np.stack(columns, axis=1).astype(np.int64)

    def _evaluate(self, x: IntArray, out: dict[str, Any], *_args: Any, **_kwargs: Any) -> None:
        out["F"] = self._assess(self.widths(np.asarray(x, dtype=np.int64)))

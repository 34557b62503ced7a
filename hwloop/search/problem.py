"""Pruning as an integer problem that every pymoo algorithm understands."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pymoo.core.problem import Problem

from hwloop.pruning import Candidate

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class SearchSpace(Protocol):
    """The candidates; `hwloop.pruning.PruningSpace` is one."""

    @property
    def base(self) -> Candidate:
        """The unpruned network."""
        ...

    @property
    def blocks(self) -> Sequence[Any]:
        """The blocks that may be removed; each has a `name`."""
        ...

    def levels(self, group: int) -> tuple[int, ...]:
        """The widths that a group may have, ascending; the last is its base width."""
        ...

    def candidate(self, widths: Sequence[int], remains: Sequence[bool] | None = None) -> Candidate:
        """The candidate of these widths and of these flags of the blocks that remain."""
        ...

    def arrays(self, candidates: Sequence[Candidate]) -> tuple[IntArray, NDArray[np.bool_]]:
        """The (n, G) widths and (n, B) flags of the blocks that remain."""
        ...

    def text(self, candidate: Candidate) -> str:
        """A candidate for people, unique."""
        ...


class PruningProblem(Problem):  # type: ignore[misc]  # pymoo has no types
    """Minimise objectives over the level that each group of channels has, and over the blocks that remain.

    Variable g is the index of group g's width in `space.levels(g)`: an integer from 0 (thinnest) to the last
    level (unpruned). One variable per block follows: 0 removed, 1 there. All objectives are minimised.

    Args:
        space: the candidates.
        names: of the objectives.
        assess: gives the (n, m) objective values of n candidates; called once per generation with all of them.
        constraints: how many there are.
        violate: gives the (n, constraints) violations of n candidates; 0 or less is kept.
    """

    def __init__(
        self,
        space: SearchSpace,
        names: tuple[str, ...],
        assess: Callable[[Sequence[Candidate]], FloatArray],
        *,
        constraints: int = 0,
        violate: Callable[[Sequence[Candidate]], FloatArray] | None = None,
    ) -> None:
        self.space = space
        self.names = names
        self._assess = assess
        self._violate = violate
        self._base = np.asarray(space.base.widths, dtype=np.int64)
        self._levels = [np.asarray(space.levels(group), dtype=np.int64) for group in range(len(self._base))]
        upper = np.array([len(levels) - 1 for levels in self._levels] + [1] * len(space.blocks), dtype=np.int64)
        super().__init__(
            n_var=len(upper),
            n_obj=len(names),
            n_ieq_constr=constraints,
            xl=np.zeros(len(upper), dtype=np.int64),
            xu=upper,
            vtype=int,
        )

    @property
    def size(self) -> int:
        """Number of points."""
        return math.prod([*(len(levels) for levels in self._levels), *(2 for _ in self.space.blocks)])

    def candidates(self, indices: IntArray) -> list[Candidate]:
        """The candidates of (n, G + B) indices."""
        groups = len(self._levels)
        return [
            self.space.candidate(
                [int(levels[index]) for levels, index in zip(self._levels, row[:groups], strict=True)],
                [bool(flag) for flag in row[groups:]],
            )
            for row in indices
        ]

    def nearest(self, shares: FloatArray) -> IntArray:
        """(n, G + B) indices of the levels nearest to (n, G) shares of the base widths (ties: thinner), all blocks."""
        wanted = shares * self._base.astype(np.float64)
        columns = [
            np.abs(levels[None, :] - wanted[:, group, None]).argmin(axis=1) for group, levels in enumerate(self._levels)
        ]
        columns += [np.ones(len(shares), dtype=np.int64)] * len(self.space.blocks)
        return np.stack(columns, axis=1).astype(np.int64)

    def _evaluate(self, x: IntArray, out: dict[str, Any], *_args: Any, **_kwargs: Any) -> None:
        candidates = self.candidates(np.asarray(x, dtype=np.int64))
        out["F"] = self._assess(candidates)
        if self._violate is not None:
            out["G"] = self._violate(candidates)

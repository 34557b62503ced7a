"""Pruning as an integer problem that every pymoo algorithm understands."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pymoo.core.problem import Problem

from hwloop.pruning import Candidate
from hwloop.search.structure import Cheap, Structure

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
        costs: gives the same at once and for nothing, nan in the column of the error.
        constraints: how many there are.
        violate: gives the (n, constraints) violations of n candidates; 0 or less is kept.
        failed: says which (n,) of n assessed candidates could not be evaluated, so that their values are none; None:
            all can. Individuals carry it under the same name.
    """

    def __init__(
        self,
        space: SearchSpace,
        names: tuple[str, ...],
        assess: Callable[[Sequence[Candidate]], FloatArray],
        costs: Callable[[Sequence[Candidate]], FloatArray] | None = None,
        *,
        constraints: int = 0,
        violate: Callable[[Sequence[Candidate]], FloatArray] | None = None,
        failed: Callable[[Sequence[Candidate]], NDArray[np.bool_]] | None = None,
    ) -> None:
        self.space = space
        self.names = names
        self.costs = costs or assess
        self._assess = assess
        self._foretold = costs is not None
        self._violate = violate
        self._failed = failed
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

    @property
    def groups(self) -> int:
        """Number of groups; their variables come before those of the blocks."""
        return len(self._levels)

    @cached_property
    def structure(self) -> Structure:
        """A block's flag is one unit with the widths that are only in that block; every other width is a unit.

        Units are in the order of the network: a block stands where the first of its widths does; one without widths of
        its own joins the unit before it.
        """
        thinnest = [levels[0] for levels in self._levels]
        unit_of: dict[int, list[int]] = {}
        owned: set[int] = set()
        before = -1
        for block in range(len(self.space.blocks)):
            remains = [other != block for other in range(len(self.space.blocks))]
            widths = self.space.candidate(thinnest, remains).widths
            mine = [g for g, width in enumerate(widths) if width != thinnest[g] and g not in owned]
            owned.update(mine)
            before = min(mine) if mine else before
            unit_of.setdefault(before, []).extend([*mine, self.groups + block])
        units = [unit_of.get(-1, [])]
        units += [
            unit_of.get(group, []) if group in owned else [group, *unit_of.get(group, [])]
            for group in range(self.groups)
        ]
        return Structure(tuple(tuple(unit) for unit in units if unit), self.canonical)

    @cached_property
    def cheap(self) -> Cheap:
        """The objectives that the device's predictor gives."""
        if not self._foretold:
            return Cheap()
        columns = tuple(int(c) for c in np.flatnonzero(np.isfinite(self.costs([self.space.base])[0])))
        return Cheap(columns, lambda x: self.costs(self.candidates(x))[:, list(columns)])

    def canonical(self, indices: IntArray) -> IntArray:
        """(n, G + B) indices, those of widths that are only in removed blocks at their last level."""
        return self.indices(self.candidates(indices)) if len(indices) else indices

    def candidates(self, indices: IntArray) -> list[Candidate]:
        """The candidates of (n, G + B) indices."""
        groups = len(self._levels)
        columns = [levels[indices[:, group]] for group, levels in enumerate(self._levels)]
        widths = np.stack(columns, axis=1).tolist() if columns else [[] for _ in indices]
        remains = (indices[:, groups:] != 0).tolist()
        return [self.space.candidate(*each) for each in zip(widths, remains, strict=True)]

    def indices(self, candidates: Sequence[Candidate]) -> IntArray:
        """The (n, G + B) indices of candidates; the inverse of `candidates`."""
        widths, remains = self.space.arrays(candidates)
        columns = [np.searchsorted(levels, widths[:, group]) for group, levels in enumerate(self._levels)]
        return np.concatenate([np.stack(columns, axis=1), remains.astype(np.int64)], axis=1).astype(np.int64)

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
        if self._failed is not None:
            out["failed"] = self._failed(candidates)

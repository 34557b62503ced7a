"""HAMP as a pymoo algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.core.algorithm import Algorithm
from pymoo.core.population import Population
from pymoo.util.display.multi import MultiObjectiveOutput

from hwloop.errors import UserError
from hwloop.search.hamp.archive import Archive
from hwloop.search.hamp.local_search import LocalSearch, Walk
from hwloop.search.hamp.portfolio import Portfolio
from hwloop.search.hamp.seeding import first_generation
from hwloop.search.hamp.selection import SELECTORS, Selector
from hwloop.search.hamp.sources import Sources
from hwloop.search.hamp.variation import Variation
from hwloop.search.structure import Cheap, Structure

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

TRIES = 20
"""Children are bred this often for those that were bred before."""


class HAMP(Algorithm):  # type: ignore[misc]  # pymoo has no types
    """Memetic multi-objective search on integers and flags, after Hong et al. 2024.

    Each generation part of the candidates are children of the population, which a portfolio of environmental
    selections keeps, and part come from a local search on surrogates of the expensive objectives; what was
    gained lately by each decides how many. Every source, selector and seed can be left out. A problem that cannot
    evaluate some points says so in `out["failed"]`, (n,) flags: they are not asked for again, and their values count
    for nothing.

    ```
    result = minimize(problem, HAMP(pop_size=40), ("n_eval", 1000), seed=1)
    ```

    Args:
        pop_size: size of the population, and candidates per generation.
        sampling: (k, v) first points; None: a ladder between the bounds. Greedy and random ones are added.
        variation: how children differ from their parents.
        selectors: environmental selections by name; one alone makes no portfolio.
        local_search: None leaves it out.
        structure: which variables belong together; None: what the problem says in `structure`, else each for itself.
        cheap: objectives to compute where a surrogate would guess; None: what the problem says in `cheap`, else none.
    """

    def __init__(
        self,
        pop_size: int = 50,
        *,
        sampling: IntArray | None = None,
        variation: Variation = Variation(),  # noqa: B008  # frozen
        selectors: Mapping[str, Selector] = SELECTORS,
        local_search: LocalSearch | None = LocalSearch(),  # noqa: B008  # frozen
        structure: Structure | None = None,
        cheap: Cheap | None = None,
        output: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(output=output or MultiObjectiveOutput(), **kwargs)
        if pop_size < 2:
            raise UserError(f"pop_size is {pop_size}: a population needs at least 2")
        self.pop_size = pop_size
        self.sampling = sampling
        self.variation = variation
        self.local_search = local_search
        self.structure = structure
        self.cheap = cheap
        self.selectors = selectors

    def _setup(self, problem: Any, **_kwargs: Any) -> None:
        if problem.n_obj < 2:
            raise UserError("HAMP looks for trade-offs: it needs a problem with at least 2 objectives, this has 1")
        self.low, self.high = _bounds(problem)
        self.known_structure = self.structure or Structure.of(problem)
        self.known_cheap = self.cheap or Cheap.of(problem)
        self.portfolio = Portfolio(self.selectors)
        self.sources = Sources()
        self.evaluated = Archive(problem.n_var, problem.n_obj)
        self.everything = Population.empty()
        self.walk = (
            Walk(self.local_search, self.low, self.high, self.known_structure, self.known_cheap, problem.n_obj)
            if self.local_search
            else None
        )

    def _initialize_infill(self) -> Any:
        first = first_generation(
            self.pop_size, self.low, self.high, self.known_structure, self.known_cheap, self.random_state, self.sampling
        )
        return Population.new("X", first)

    def _initialize_advance(self, infills: Any = None, **_kwargs: Any) -> None:
        self._take(infills)
        self._survive(infills)

    def _infill(self) -> Any:
        searched = np.zeros((0, len(self.low)), dtype=np.int64)
        if self.walk:
            wanted = self.sources.searched(self.pop_size)
            searched = self.walk.candidates(self.evaluated, wanted, self.random_state)
        bred, parents = self._breed(self.pop_size - len(searched), searched)
        if not len(searched) + len(bred):
            return None
        infills = Population.new("X", np.concatenate([searched, bred]))
        orphans = np.full((len(searched), self.kept_by.shape[1]), np.nan)
        infills.set("kept_by", np.concatenate([orphans, self.kept_by[parents].mean(axis=1)]))
        return infills

    def _advance(self, infills: Any = None, **_kwargs: Any) -> None:
        if infills is None:  # every point was evaluated
            self.termination.terminate()
            return
        gains = self._take(infills)
        judged = ~_failed(infills)
        kept_by = np.asarray(infills.get("kept_by"), dtype=np.float64)
        bred = judged & ~np.isnan(kept_by[:, 0])
        self.sources.reward(gains[judged], bred[judged])
        self.portfolio.reward(gains[bred], kept_by[bred])
        self._survive(Population.merge(self.pop, infills))

    def refreshed(self) -> None:
        """Take the values of all individuals in `everything` again, after they were corrected from outside."""
        violation = np.asarray(self.everything.get("CV"), dtype=np.float64)[:, 0]
        self.evaluated.correct(np.asarray(self.everything.get("F"), dtype=np.float64), violation)

    def _set_optimum(self) -> None:
        front = self.evaluated.front
        if len(front):
            self.opt = self.everything[front]
        else:
            super()._set_optimum()

    def _take(self, infills: Any) -> FloatArray:
        """Learn from what was evaluated; (k,) what each gained."""
        points = np.asarray(infills.get("X"), dtype=np.int64)
        failed = _failed(infills)
        self.evaluated.know(points[failed])
        judged = infills[~failed]
        self.everything = Population.merge(self.everything, judged)
        gains = np.zeros(len(infills))
        if len(judged):
            values = np.asarray(judged.get("F"), dtype=np.float64)
            violation = np.asarray(judged.get("CV"), dtype=np.float64)[:, 0]
            gains[~failed] = self.evaluated.add(points[~failed], values, violation)
        return gains

    def _survive(self, union: Any) -> None:
        """Feasible ones by the portfolio; where they are too few, all of them and then those that violate least.

        What could not be evaluated does not survive, unless nothing could.
        """
        failed = _failed(union)
        union = union if failed.all() else union[~failed]
        violation = np.asarray(union.get("CV"), dtype=np.float64)[:, 0]
        values = np.asarray(union.get("F"), dtype=np.float64)
        feasible = np.flatnonzero(violation <= 0)
        others = np.flatnonzero(violation > 0)
        others = others[np.argsort(violation[others], kind="stable")]
        chosen, kept_by = feasible, np.ones((len(feasible), len(self.portfolio.names)), dtype=np.bool_)
        if len(feasible):
            drawn, kept_by = self.portfolio.select(values[feasible], min(self.pop_size, len(feasible)))
            chosen = feasible[drawn]
        more = others[: self.pop_size - len(chosen)]
        self.kept_by = np.concatenate([kept_by, np.ones((len(more), kept_by.shape[1]), dtype=np.bool_)])
        self.pop = union[np.concatenate([chosen, more])]

    def _breed(self, count: int, besides: IntArray) -> tuple[IntArray, IntArray]:
        """(k, v) new children and the (k, 2) places of their parents, none of them among `besides`."""
        parents_x = np.asarray(self.pop.get("X"), dtype=np.int64)
        found = {row.tobytes() for row in besides}
        children: list[IntArray] = []
        parents: list[IntArray] = []
        for _ in range(TRIES):
            if len(children) >= count:
                break
            # A tournament of two: the population is in the order in which it was drawn, the first are the best.
            pairs = self.random_state.integers(0, len(parents_x), (count, 2, 2)).min(axis=2)
            bred = self.variation.children(
                parents_x[pairs[:, 0]],
                parents_x[pairs[:, 1]],
                self.known_structure,
                self.low,
                self.high,
                self.random_state,
            )
            bred = np.ascontiguousarray(self.known_structure.canonical(bred))
            for row, pair, known in zip(bred, pairs, self.evaluated.knows(bred), strict=True):
                if not known and row.tobytes() not in found and len(children) < count:
                    found.add(row.tobytes())
                    children.append(row)
                    parents.append(pair)
        count, variables = len(children), len(self.low)
        return (
            np.array(children, dtype=np.int64).reshape(count, variables),
            np.array(parents, dtype=np.int64).reshape(count, 2),
        )


def _failed(individuals: Any) -> NDArray[np.bool_]:
    """(n,) which could not be evaluated, as far as their problem says so."""
    return np.array([bool(failed) for failed in individuals.get("failed")], dtype=np.bool_)


def _bounds(problem: Any) -> tuple[IntArray, IntArray]:
    """Lower and upper bounds as integers.

    Raises:
        UserError: there are none, or they are no integers.
    """
    if problem.xl is None or problem.xu is None:
        raise UserError("HAMP needs a problem with lower and upper bounds (xl, xu)")
    bounds = np.asarray(problem.xl, dtype=np.float64), np.asarray(problem.xu, dtype=np.float64)
    if not all(np.isfinite(bound).all() and (bound == np.rint(bound)).all() for bound in bounds):
        raise UserError("HAMP searches integers: the problem's bounds must be finite whole numbers")
    return bounds[0].astype(np.int64), bounds[1].astype(np.int64)

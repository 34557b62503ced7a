"""Joint pruning: the parts' fronts are put together in the order of the damage that each of their members does."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pymoo.core.algorithm import Algorithm
from pymoo.core.population import Population

from hwloop.errors import UserError
from hwloop.pruning import Candidate
from hwloop.search.algorithms import Recipe
from hwloop.search.problem import PruningProblem


@dataclass(frozen=True)
class Option:
    """A member of a part's front, judged in the whole network.

    Attributes:
        part: which.
        candidate: the whole network with this part alone pruned.
        impairment: errors that it adds, as a share of the images; negative where it takes some away.
        cost: of that network.
    """

    part: int
    candidate: Candidate
    impairment: float
    cost: float


def schemes(options: Sequence[Option]) -> list[dict[int, Option]]:
    """The joint schemes along the global performance impairment ranking, by part.

    All options of all parts are ranked by the impairment of the whole network (ties: the cheaper first). Walking up the
    ranking, an option replaces its part's choice when it is cheaper; each replacement is a scheme. So savings grow from
    scheme to scheme, and the least harmful ones are taken first.
    """
    chosen: dict[int, Option] = {}
    found = []
    for option in sorted(options, key=lambda one: (one.impairment, one.cost, one.part)):
        if option.part not in chosen or option.cost < chosen[option.part].cost:
            chosen = {**chosen, option.part: option}
            found.append(chosen)
    return found


def join(base: Candidate, scheme: dict[int, Option], names: Sequence[str]) -> tuple[list[int], list[bool]]:
    """The widths and remaining blocks of a scheme; parts share neither groups nor blocks.

    Args:
        base: the unpruned network.
        scheme: the option of each part.
        names: of all blocks, in order.
    """
    widths = list(base.widths)
    removed: set[str] = set()
    for option in scheme.values():
        removed |= set(option.candidate.removed)
        for group, (width, whole) in enumerate(zip(option.candidate.widths, base.widths, strict=True)):
            if width != whole:
                widths[group] = width
    return widths, [name not in removed for name in names]


class JointPruning(Algorithm):  # type: ignore[misc]  # pymoo has no types
    """Two generations: each member of each part's front alone in the whole network, then the joint schemes.

    Args:
        fronts: for each part, candidates of the whole network with that part alone pruned.
        cost: the objective that schemes are to save.
    """

    def __init__(self, fronts: Sequence[Sequence[Candidate]], cost: str) -> None:
        super().__init__()
        self._fronts = fronts
        self._cost_name = cost
        self.finished: str | None = None
        self.joined: list[Candidate] = []

    def _setup(self, problem: PruningProblem, **_kwargs: Any) -> None:
        for name in ("error", self._cost_name):
            if name not in problem.names:
                raise UserError(f"emo-dir needs {name!r} among the objectives, given are {', '.join(problem.names)}")
        self._error = problem.names.index("error")
        self._cost = problem.names.index(self._cost_name)

    def _initialize_infill(self) -> Population:
        base = self.problem.space.base
        singles = [candidate for front in self._fronts for candidate in front if candidate != base]
        self._singles = list(dict.fromkeys([base, *singles]))
        return self._population(self._singles)

    def _initialize_advance(self, infills: Population | None = None, **_kwargs: Any) -> None:
        assert infills is not None  # the base network and the singles
        values = dict(zip(self._singles, infills.get("F"), strict=True))
        base = values[self.problem.space.base]
        options = [
            Option(
                part,
                candidate,
                float(values[candidate][self._error] - base[self._error]),
                float(values[candidate][self._cost]),
            )
            for part, front in enumerate(self._fronts)
            for candidate in front
            if candidate in values and float(values[candidate][self._cost]) < float(base[self._cost])
        ]
        names = [block.name for block in self.problem.space.blocks]
        joint = [self.problem.space.candidate(*join(self._singles[0], each, names)) for each in schemes(options)]
        self.joined = [candidate for candidate in dict.fromkeys(joint) if candidate not in values]

    def _infill(self) -> Population | None:
        if self.finished is not None or not self.joined:
            self._finish()
            return None
        return self._population(self.joined)

    def _advance(self, infills: Population | None = None, **_kwargs: Any) -> None:
        self.pop = infills
        self._finish()

    def _finish(self) -> None:
        self.finished = f"{len(self.joined)} joint schemes along the ranking of {len(self._singles) - 1} of parts"

    def _population(self, candidates: Sequence[Candidate]) -> Population:
        return Population.new("X", self.problem.indices(candidates))


def recipe(fronts: Sequence[Sequence[Candidate]], cost: str) -> Recipe:
    """Joint pruning of these fronts, for `run_search`; the journal holds a hash of them."""
    digest = hashlib.sha256(repr([[(c.widths, c.removed) for c in front] for front in fronts]).encode()).hexdigest()
    settings = {"emo_dir_fronts": digest, "emo_dir_resource": cost}
    return Recipe("emo-dir", lambda *_start: JointPruning(fronts, cost), settings)

"""NetAdapt as a pymoo algorithm: one generation is one iteration of its loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymoo.core.algorithm import Algorithm
from pymoo.core.population import Population

from hwloop.errors import UserError
from hwloop.pruning import Candidate
from hwloop.search.algorithms import Recipe, register
from hwloop.search.netadapt.lineage import Lineage
from hwloop.search.netadapt.loop import Proposal, propose, reduction, select
from hwloop.search.netadapt.settings import NetAdaptSettings
from hwloop.search.problem import PruningProblem


class NetAdapt(Algorithm):  # type: ignore[misc]  # pymoo has no types
    """The loop of Yang et al. 2018, "NetAdapt: platform-aware neural network adaptation", algorithm 1.

    The first generation is the base network alone; each later one the proposals of one iteration. It has no random
    choices and leaves the blocks as they are. When the budget is reached, or no group can be cut any more, `finished`
    says so and nothing is asked.

    Args:
        settings: budget, steps and choice.
        lineage: is told what every proposal was cut from.
    """

    def __init__(self, settings: NetAdaptSettings, lineage: Lineage | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.lineage = lineage or Lineage()
        self.finished: str | None = None
        self.winners: list[Candidate] = []

    def _setup(self, problem: PruningProblem, **_kwargs: Any) -> None:
        for name in ("error", self.settings.resource):
            if name not in problem.names:
                raise UserError(f"netadapt needs {name!r} among the objectives, given are {', '.join(problem.names)}")
        if self.settings.resource == "error":
            raise UserError("netadapt's resource is what the network costs, such as latency_ms; it cannot be the error")
        self._error = problem.names.index("error")
        self._column = problem.names.index(self.settings.resource)

    def _initialize_infill(self) -> Population:
        return self._population([self.problem.space.base])

    def _initialize_advance(self, infills: Population | None = None, **_kwargs: Any) -> None:
        assert infills is not None  # the base network
        values = infills.get("F")[0]
        self._base = float(values[self._column])
        self._win(Proposal(self.problem.space.base, self._base), float(values[self._error]))

    def _infill(self) -> Population | None:
        if self._current.resource <= self.settings.budget * self._base:
            self.finished = (
                f"the budget is reached: {self.settings.resource} is {self._current.resource / self._base:.3f} of the"
                " base network's"
            )
            return None
        self._target = self._current.resource - reduction(self.settings, self._base, len(self.winners))
        proposals = propose(self.problem.space, self._current.candidate, self._target, self._needs)
        # One that needs no less could not be chosen: its evaluation would be wasted.
        self._proposals = [proposal for proposal in proposals if proposal.resource < self._current.resource]
        if not self._proposals:
            self.finished = (
                f"no group can be cut further: {self.settings.resource} stays at"
                f" {self._current.resource / self._base:.3f} of the base network's"
            )
            return None
        candidates = [proposal.candidate for proposal in self._proposals]
        self.lineage.note(self._current.candidate, candidates)
        return self._population(candidates)

    def _advance(self, infills: Population | None = None, **_kwargs: Any) -> None:
        assert infills is not None  # the proposals
        self.pop = infills
        errors = [float(values[self._error]) for values in infills.get("F")]
        chosen = select(self.settings, self._current, self._current_error, self._proposals, errors, self._target)
        assert chosen is not None  # all that were asked need less than the current network
        self._win(chosen, errors[self._proposals.index(chosen)])

    def _win(self, proposal: Proposal, error: float) -> None:
        self._current, self._current_error = proposal, error
        self.winners.append(proposal.candidate)

    def _needs(self, candidates: Sequence[Candidate]) -> list[float]:
        return [float(value) for value in self.problem.costs(candidates)[:, self._column]]

    def _population(self, candidates: Sequence[Candidate]) -> Population:
        return Population.new("X", self.problem.indices(candidates))


def recipe(settings: NetAdaptSettings, lineage: Lineage | None = None) -> Recipe:
    """NetAdapt with settings of one's own, for `run_search`."""
    return Recipe("netadapt", lambda *_start: NetAdapt(settings, lineage), settings.to_record())


@register("netadapt")
def netadapt(*_start: object) -> NetAdapt:
    """NetAdapt with the settings of its released scripts; population and first generation are its own."""
    return NetAdapt(NetAdaptSettings())

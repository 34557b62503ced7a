"""Runs a search: asks an algorithm, evaluates, journals, tells; resumes to the bit by replay.

A resumed search runs the algorithm again from its seed. Every candidate that the journal holds is answered
from it, so the algorithm makes the same choices in the same order, reaches the point where the earlier run
was cut off, and goes on from there. Nothing of the algorithm's state has to be stored, and no evaluation is
repeated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwloop.errors import EvaluationError, StudyError, UserError
from hwloop.progress import Progress, Step
from hwloop.pruning import Candidate
from hwloop.search.algorithms import Recipe, make_algorithm
from hwloop.search.constraints import Constraint
from hwloop.search.evaluation import BatchEvaluator, ErrorResult
from hwloop.search.front import front_of, hypervolume, nondominated
from hwloop.search.hardware import Exchange, HardwareLoop, Measured, Probe
from hwloop.search.initial import initial_indices
from hwloop.search.objectives import CostModel, Costs, Objective, get_objectives
from hwloop.search.probing import allowance, choose_probes, undecided
from hwloop.search.problem import PruningProblem, SearchSpace
from hwloop.search.record import Evaluated, Fingerprint, History, Journal, unchanged

FloatArray = NDArray[np.float64]

LATENCY = "latency_ms"

REFERENCE_MARGIN = 1.1
"""The reference point lies this far beyond the base network in every objective but the error (worst is 1)."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        objectives: names, in the order of all values.
        front: the non-dominated of all evaluated candidates that keep the constraints, sorted by their objectives.
        evaluated: all, in the order in which they were asked for.
        hypervolume: of everything evaluated up to each generation that keeps the constraints, by the predictions of
            that moment, as a share of the box up to `reference`.
        reference: 1 for the error, `REFERENCE_MARGIN` times the base network's value for the others.
        replayed: how many evaluations came from the journal of earlier runs.
        exhausted: the algorithm found no new candidate before the last generation.
        predictor: as it was in the end, with what was measured during the search.
        probes: what was sent to the device, with what was predicted by then.
        measured: what the device said of them.
    """

    objectives: tuple[str, ...]
    front: tuple[Evaluated, ...]
    evaluated: tuple[Evaluated, ...]
    hypervolume: tuple[float, ...]
    reference: tuple[float, ...]
    replayed: int
    exhausted: bool
    predictor: CostModel
    probes: tuple[Probe, ...] = ()
    measured: tuple[Measured, ...] = ()


def run_search(
    space: SearchSpace,
    evaluator: BatchEvaluator,
    predictor: CostModel,
    objectives: Sequence[str],
    *,
    algorithm: str | Recipe = "nsga2",
    population: int,
    generations: int,
    seed: int,
    journal: Journal,
    progress: Progress,
    context: Mapping[str, str] | None = None,
    constraints: Sequence[Constraint] = (),
    hardware: HardwareLoop | None = None,
) -> SearchResult:
    """Search a space, or go on with a search.

    Args:
        space: the candidates.
        evaluator: gives errors; asked only when the error is an objective, and once per candidate.
        predictor: gives latency, memory and sizes; asked for a whole generation at once.
        objectives: names of what is minimised.
        algorithm: name of the algorithm, or a recipe with its settings.
        population: candidates per generation.
        generations: with the first one; a finished search can be continued with more of them.
        seed: of all random choices.
        journal: empty, or of an earlier run of the same search.
        progress: shown one unit per candidate.
        context: what else makes this search this search (the judge's settings, the data's fingerprint).
        constraints: that the networks of the front keep, by the upper ends of their intervals.
        hardware: lets the device take part; without it nothing is measured.

    Returns:
        The result; the same, to the bit, whether or how often the search was interrupted.

    Raises:
        UserError: an unknown objective or algorithm, or an objective that the predictor cannot give.
        StudyError: the journal is of another search, or the predictor has changed since.
    """
    if population < 2 or generations < 1:
        raise UserError(f"a search needs a population of 2 and 1 generation, got {population} and {generations}")
    wanted = get_objectives(objectives)
    names = tuple(objective.name for objective in wanted)
    more = {"constraints": ", ".join(map(str, constraints))} if constraints else {}
    more |= {"device_trials": str(hardware.trials)} if hardware else {}
    name, settings = (algorithm, {}) if isinstance(algorithm, str) else (algorithm.name, algorithm.settings)
    fingerprint = Fingerprint.of(space, names, name, population, seed, {**(context or {}), **settings, **more})
    history = History(journal, fingerprint, names)
    assessor = _Assessor(space, evaluator, predictor, wanted, history, tuple(constraints))
    exchange = Exchange(hardware, history, progress) if hardware else None
    problem = PruningProblem(
        space,
        names,
        assessor.assess,
        assessor.costs,
        constraints=len(constraints),
        violate=assessor.violations if constraints else None,
    )
    asked = make_algorithm(algorithm, problem, population, seed, initial_indices(problem, population, seed))
    volumes: list[float] = []
    exhausted = False
    replayed = assessor.history.replayable
    total = population * generations
    with progress.step("search", total=total, done=min(replayed, total)) as step:
        assessor.step = step
        for generation in range(generations):
            assessor.generation = generation
            if exchange:
                _cross(exchange, assessor, asked, problem, generation, generations)
            candidates = asked.ask()
            if candidates is None or not len(candidates):
                finished = getattr(asked, "finished", None)
                exhausted = finished is None
                progress.say(f"search: {finished or f'no new candidates after {generation} generations'}")
                break
            asked.evaluator.eval(problem, candidates)
            asked.tell(infills=candidates)
            assessor.check_generation()
            volumes.append(hypervolume(assessor.values, assessor.reference))
        if exchange and (refitted := exchange.take(assessor.generation + 1)) is not None:
            assessor.refresh(refitted)
    evaluated = tuple(assessor.order.values())
    return SearchResult(
        objectives=names,
        front=front_of(assessor.kept),
        evaluated=evaluated,
        hypervolume=tuple(volumes),
        reference=tuple(map(float, assessor.reference)),
        replayed=min(replayed, len(evaluated)),
        exhausted=exhausted,
        predictor=assessor.predictor,
        probes=tuple(exchange.probes) if exchange else (),
        measured=tuple(exchange.measured) if exchange else (),
    )


def _cross(
    exchange: Exchange, assessor: _Assessor, asked: Any, problem: PruningProblem, generation: int, generations: int
) -> None:
    """The border before a generation: take results, learn from them, send candidates."""
    if (refitted := exchange.take(generation)) is not None:
        assessor.refresh(refitted)
        for individuals in (asked.pop, getattr(asked, "everything", None)):
            if individuals is not None and len(individuals):
                known = problem.candidates(np.asarray(individuals.get("X"), dtype=np.int64))
                individuals.set("F", assessor.known(known))
                if problem.has_constraints():
                    individuals.set("G", assessor.violations(known))
                    for individual in individuals:
                        individual.CV = None  # pymoo keeps the sum of the old ones
        if hasattr(asked, "refreshed"):  # an algorithm that keeps values beside its individuals
            asked.refreshed()
    if not exchange.known(generation) and not assessor.history.reached(generation):
        count = allowance(exchange.loop.trials, generation, generations) - len(exchange.probes)
        exchange.send(generation, assessor.probes(min(count, exchange.left), exchange.probes))


class _Assessor:
    """Gives a generation its objective values, from the journal or by evaluating."""

    def __init__(
        self,
        space: SearchSpace,
        evaluator: BatchEvaluator,
        predictor: CostModel,
        objectives: tuple[Objective, ...],
        history: History,
        constraints: tuple[Constraint, ...],
    ) -> None:
        self._space = space
        self._evaluator = evaluator
        self._objectives = objectives
        self._constraints = constraints
        self.predictor = predictor
        self._base: FloatArray | None = None
        self.history = history
        self.generation = 0
        self.order: dict[Candidate, Evaluated] = {}
        self.step: Step | None = None

    def assess(self, candidates: Sequence[Candidate]) -> FloatArray:
        """(n, m) objective values of n candidates; new ones are in the journal when this returns."""
        costs = self.costs(candidates)
        fresh: dict[Candidate, int] = {}
        for position, candidate in enumerate(candidates):
            known = self.history.get(candidate)
            if known is None:
                if candidate not in fresh:
                    fresh[candidate] = position
                elif self.step:
                    self.step.advance(1, "known")
                continue
            if candidate not in self.order:
                self._check_replay(known, costs[position])
            elif self.step:
                self.step.advance(1, "known")
        self._evaluate(fresh, costs)
        for candidate in candidates:
            found = self.history.get(candidate)
            if found is None:
                raise UserError(f"the evaluator gave no result for {self._space.text(candidate)}")
            self.order.setdefault(candidate, found)
        return np.array([self.order[candidate].values for candidate in candidates], dtype=np.float64)

    @property
    def reference(self) -> FloatArray:
        """The reference point of the hypervolume; it does not depend on what the search found."""
        if self._base is None:
            self._base = self.costs([self._space.base])[0]
        values = [
            1.0 if objective.expensive else REFERENCE_MARGIN * float(value)
            for objective, value in zip(self._objectives, self._base, strict=True)
        ]
        return np.array(values)

    @property
    def values(self) -> FloatArray:
        """(n, m) objective values of all candidates that could be evaluated."""
        return np.array([each.values for each in self.kept], dtype=np.float64)

    @property
    def kept(self) -> list[Evaluated]:
        """All candidates that could be evaluated and keep the constraints."""
        evaluated = [each for each in self.order.values() if not each.failure]
        if not self._constraints or not evaluated:
            return evaluated
        worst = self.violations([each.candidate for each in evaluated]).max(axis=1)
        return [each for each, violation in zip(evaluated, worst, strict=True) if violation <= 0]

    def violations(self, candidates: Sequence[Candidate]) -> FloatArray:
        """(n, k) by how much n candidates are beyond k limits, relative; see `Constraint.violation`."""
        costs = self._device_costs(candidates)
        return np.stack([constraint.violation(costs) for constraint in self._constraints], axis=1)

    def known(self, candidates: Sequence[Candidate]) -> FloatArray:
        """(n, m) objective values of candidates that were assessed before, as they are now."""
        return np.array([self.order[candidate].values for candidate in candidates], dtype=np.float64)

    def refresh(self, predictor: CostModel) -> None:
        """Predict everything evaluated so far again."""
        self.reference  # noqa: B018  # stays what the first predictor said
        self.predictor = predictor
        alive = [each for each in self.order.values() if not each.failure]
        costs = self.costs([each.candidate for each in alive])
        for each, row in zip(alive, costs, strict=True):
            values = tuple(
                value if objective.expensive else float(cost)
                for objective, value, cost in zip(self._objectives, each.values, row, strict=True)
            )
            self.order[each.candidate] = replace(each, values=values)

    def probes(self, count: int, before: Sequence[Probe]) -> list[Probe]:
        """At most `count` candidates to measure next; see `probing.py`."""
        alive = [each for each in self.order.values() if not each.failure]
        if count < 1 or not alive:
            return []
        costs = self._device_costs([each.candidate for each in alive])
        low, middle, high = costs.latency_low_ms, costs.latency_ms, costs.latency_high_ms
        values = np.array([each.values for each in alive], dtype=np.float64)
        column = next((i for i, each in enumerate(self._objectives) if each.name == LATENCY), None)
        unclear = np.zeros(len(alive), dtype=np.bool_)
        if column is not None:
            optimistic, pessimistic = values.copy(), values.copy()
            optimistic[:, column], pessimistic[:, column] = low, high
            unclear |= undecided(optimistic, pessimistic)
        limit = next((each.limit for each in self._constraints if each.name == LATENCY), None)
        if limit is not None:
            unclear |= (low <= limit) & (high > limit)
        sent = {probe.candidate for probe in before}
        chosen = choose_probes(
            count,
            nondominated(values),
            unclear,
            (high - low) / middle,
            np.array([each.candidate in sent for each in alive], dtype=np.bool_),
        )
        return [Probe(alive[i].candidate, float(middle[i]), float(low[i]), float(high[i])) for i in chosen]

    def check_generation(self) -> None:
        """Refuse a journal whose candidates of this generation are not those that the algorithm asked for.

        Raises:
            StudyError: see above.
        """
        asked = {candidate for candidate, evaluated in self.order.items() if evaluated.generation == self.generation}
        strangers = self.history.of_generation(self.generation) - asked
        if strangers:
            raise StudyError(
                f"the search journal holds {self._space.text(min(strangers))} in generation"
                f" {self.generation}, where this search does not ask for it:"
                " it was written by another version of hwloop"
            )

    def costs(self, candidates: Sequence[Candidate]) -> FloatArray:
        """(n, m) values of the cheap objectives; nan in the column of the error.

        Raises:
            UserError: a value is not finite.
        """
        costs = self._device_costs(candidates)
        columns = []
        for objective in self._objectives:
            if objective.cost is None:
                columns.append(np.full(len(candidates), np.nan))
                continue
            values = objective.cost(costs)
            if not np.isfinite(values).all():
                raise UserError(f"objective {objective.name!r} has no value: the predictor never saw it measured")
            columns.append(values)
        return np.stack(columns, axis=1)

    def _device_costs(self, candidates: Sequence[Candidate]) -> Costs:
        widths, remains = self._space.arrays(candidates)
        return Costs.of(self.predictor, widths, remains if len(self._space.blocks) else None)

    def _check_replay(self, known: Evaluated, costs: FloatArray) -> None:
        if known.failure:
            return
        if known.generation != self.generation:
            raise StudyError(
                f"the search journal holds {known.text} in generation {known.generation}, this search asks"
                f" for it in generation {self.generation}: it was written by another version of hwloop"
            )
        for objective, stored, recomputed in zip(self._objectives, known.values, costs, strict=True):
            if not objective.expensive and not unchanged(stored, float(recomputed)):
                raise StudyError(
                    f"the predictor has changed since the search began: {objective.name} of {known.text} was"
                    f" {stored:.6g}, is {recomputed:.6g}; restore the predictor, or begin another study"
                )

    def _evaluate(self, fresh: Mapping[Candidate, int], costs: FloatArray) -> None:
        batch = list(fresh)
        if not any(objective.expensive for objective in self._objectives):
            for candidate in batch:
                self._keep(candidate, costs[fresh[candidate]], ErrorResult(0, math.nan, 0.0))
            return
        failed: list[ErrorResult] = []
        for result in self._evaluator.evaluate(batch):
            if result.failure:
                failed.append(result)
            else:
                self._keep(batch[result.index], costs[fresh[batch[result.index]]], result)
        if failed and len(failed) == len(batch) and (len(batch) > 1 or not len(self.history)):
            # It is not the candidates: none of this is written down, so that a later run tries them again.
            raise EvaluationError(f"none of {len(batch)} candidates could be evaluated: {failed[-1].failure}")
        for result in failed:
            self._keep(batch[result.index], costs[fresh[batch[result.index]]], result)

    def _keep(self, candidate: Candidate, costs: FloatArray, result: ErrorResult) -> None:
        text = self._space.text(candidate)
        if result.failure:
            values = tuple(map(float, self.reference))
        else:
            values = tuple(
                result.error if objective.expensive else float(value)
                for objective, value in zip(self._objectives, costs, strict=True)
            )
        if not all(map(math.isfinite, values)):
            raise UserError(f"the error of {text} is {result.error}: the evaluator must give a finite number")
        self.history.add(Evaluated(text, candidate, values, self.generation, result.seconds, result.failure))
        if self.step:
            self.step.advance(1, text)

"""What every candidate of a search is worth: judged once, journalled, and predicted anew when the device has spoken."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hwloop.errors import EvaluationError, StudyError, UserError
from hwloop.progress import Step
from hwloop.pruning import Candidate
from hwloop.search.constraints import Constraint
from hwloop.search.evaluation import BatchEvaluator, ErrorResult
from hwloop.search.front import nondominated
from hwloop.search.hardware import Probe
from hwloop.search.objectives import CostModel, Costs, Objective
from hwloop.search.probing import choose_probes, undecided
from hwloop.search.problem import SearchSpace
from hwloop.search.record import Evaluated, History, unchanged

FloatArray = NDArray[np.float64]

LATENCY = "latency_ms"

REFERENCE_MARGIN = 1.1
"""The reference point lies this far beyond the base network in every objective but the error (worst is 1)."""


class Assessor:
    """Gives a generation its objective values, from the journal or by evaluating.

    Attributes:
        predictor: of everything but the error; another one after `refresh`.
        reference: the reference point of the hypervolume: what the first predictor says of the base network, whatever
            the search finds and the device says.
        history: what the journal holds.
        generation: that is assessed now.
        order: everything that was asked for, in that order.
        step: shown one unit per candidate.
    """

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
        self.reference = self._reference()
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

    def failed(self, candidates: Sequence[Candidate]) -> NDArray[np.bool_]:
        """(n,) which of n candidates that were assessed before could not be evaluated."""
        return np.array([bool(self.order[candidate].failure) for candidate in candidates], dtype=np.bool_)

    def refresh(self, predictor: CostModel) -> None:
        """Predict everything evaluated so far again."""
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

    def _reference(self) -> FloatArray:
        base = self.costs([self._space.base])[0]
        values = [
            1.0 if objective.expensive else REFERENCE_MARGIN * float(value)
            for objective, value in zip(self._objectives, base, strict=True)
        ]
        return np.array(values)

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

"""Runs a search: asks an algorithm, evaluates, journals, tells; resumes to the bit by replay.

A resumed search runs the algorithm again from its seed. Every candidate that the journal holds is answered
from it, so the algorithm makes the same choices in the same order, reaches the point where the earlier run
was cut off, and goes on from there. Nothing of the algorithm's state has to be stored, and no evaluation is
repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwloop.errors import UserError
from hwloop.progress import Progress
from hwloop.search.algorithms import Recipe, make_algorithm
from hwloop.search.assessor import Assessor
from hwloop.search.constraints import Constraint
from hwloop.search.evaluation import BatchEvaluator
from hwloop.search.front import front_of, hypervolume
from hwloop.search.hardware import Exchange, HardwareLoop, Measured, Probe
from hwloop.search.initial import initial_indices
from hwloop.search.objectives import CostModel, get_objectives
from hwloop.search.probing import allowance
from hwloop.search.problem import PruningProblem, SearchSpace
from hwloop.search.record import Evaluated, Fingerprint, History, Journal


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        objectives: names, in the order of all values.
        front: the non-dominated of all evaluated candidates that keep the constraints, sorted by their objectives.
        evaluated: all, in the order in which they were asked for.
        hypervolume: of everything evaluated up to each generation that keeps the constraints, by the predictions of
            that moment, as a share of the box up to `reference`.
        reference: 1 for the error, `assessor.REFERENCE_MARGIN` times the base network's value for the others.
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
    assessor = Assessor(space, evaluator, predictor, wanted, history, tuple(constraints))
    exchange = Exchange(hardware, history, progress) if hardware else None
    problem = PruningProblem(
        space,
        names,
        assessor.assess,
        assessor.costs,
        constraints=len(constraints),
        violate=assessor.violations if constraints else None,
        failed=assessor.failed,
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
    exchange: Exchange, assessor: Assessor, asked: Any, problem: PruningProblem, generation: int, generations: int
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

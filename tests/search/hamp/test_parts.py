"""The parts of HAMP one by one: seeding, variation, picking, sources, surrogate."""

from __future__ import annotations

import itertools

import moocore
import numpy as np
import pytest

from hwloop.search.hamp.neighbours import neighbours
from hwloop.search.hamp.picking import greedy_hypervolume
from hwloop.search.hamp.seeding import first_generation, greedy_path, ladder
from hwloop.search.hamp.selection.order import BEYOND
from hwloop.search.hamp.sources import LEAST, Sources
from hwloop.search.hamp.surrogate import Surrogate
from hwloop.search.hamp.variation import Variation, segment
from hwloop.search.structure import Cheap, Structure
from hwloop.search.synthetic import SyntheticPruning

PROBLEM = SyntheticPruning(1)
LOW, HIGH = PROBLEM.xl.astype(np.int64), PROBLEM.xu.astype(np.int64)


def points(count: int, seed: int = 0) -> np.ndarray:
    return PROBLEM.canonical(np.random.default_rng(seed).integers(LOW, HIGH + 1, (count, 50)))


def test_the_first_generation_is_distinct_canonical_and_has_the_base_and_greedy_points() -> None:
    made = first_generation(40, LOW, HIGH, PROBLEM.structure, PROBLEM.cheap, np.random.default_rng(1))
    assert made.shape == (40, 50)
    assert len(np.unique(made, axis=0)) == 40
    assert (PROBLEM.canonical(made) == made).all()
    assert (made[0] == HIGH).all()
    greedy = greedy_path(10, LOW, HIGH, PROBLEM.structure, PROBLEM.cheap)
    assert {row.tobytes() for row in greedy} <= {row.tobytes() for row in made}


def test_points_that_are_given_come_first_and_leave_room_for_greedy_ones() -> None:
    given = points(40, 5)
    made = first_generation(40, LOW, HIGH, PROBLEM.structure, PROBLEM.cheap, np.random.default_rng(1), given)
    kept = 40 - len(greedy_path(10, LOW, HIGH, PROBLEM.structure, PROBLEM.cheap))
    assert 20 < kept < 40
    assert (made[:kept] == given[:kept]).all()
    assert (made[kept:] != given[kept:]).any(axis=1).all()
    alone = first_generation(40, LOW, HIGH, PROBLEM.structure, Cheap(), np.random.default_rng(1), given)
    assert (alone == given).all()


def test_a_greedy_path_saves_more_and_more_and_beats_uniform_points_in_what_is_cheap() -> None:
    path = greedy_path(8, LOW, HIGH, PROBLEM.structure, PROBLEM.cheap)
    saved = 2 - (PROBLEM.costs(path) / PROBLEM.base[1:]).sum(axis=1)
    assert (np.diff(saved) > 0).all()
    assert 1 < len(path) <= 8


def test_the_ladder_keeps_flags_and_steps_down_together() -> None:
    rungs = ladder(4, LOW, HIGH)
    assert (rungs[:, HIGH == 1] == 1).all()
    assert rungs[0].tolist() == HIGH.tolist()
    assert (np.diff(rungs[:, 0]) < 0).all()
    assert (rungs[:, HIGH > 1] == rungs[:, :1]).all()


def test_children_without_mutation_take_whole_units_or_lie_between() -> None:
    first, second = np.tile(LOW, (400, 1)), np.tile(HIGH, (400, 1))
    still = Variation(crossover=1.0, rate=0.0, together=0.0)
    children = still.children(first, second, PROBLEM.structure, LOW, HIGH, np.random.default_rng(2))
    assert (children >= LOW).all()
    assert (children <= HIGH).all()
    corners = children[((children == LOW) | (children == HIGH)).all(axis=1)]
    pairs = [unit for unit in PROBLEM.structure.units if len(unit) == 2]
    together = [(corners[:, a] == HIGH[a]) == (corners[:, b] == HIGH[b]) for a, b in pairs]
    assert len(corners) > 200  # by segment and by unit; few of those between end in a corner
    assert np.mean(together) > 0.95


def test_mutants_and_neighbours_stay_within_bounds_and_move_a_little() -> None:
    start = points(30)
    rng = np.random.default_rng(3)
    mutants = Variation().mutants(start, PROBLEM.structure, LOW, HIGH, rng)
    around = neighbours(start, 6, PROBLEM.structure, LOW, HIGH, rng)
    for moved in (mutants, around):
        assert (moved >= LOW).all()
        assert (moved <= HIGH).all()
    assert np.median((around != np.repeat(start, 6, axis=0)).sum(axis=1)) <= 2
    assert 0 < (mutants != start).sum(axis=1).mean() < 6


def test_a_segment_is_of_whole_neighbouring_units() -> None:
    rng = np.random.default_rng(4)
    structure = Structure(((0, 4), (1,), (2, 5), (3,)))
    found = {tuple(segment(structure, rng)) for _ in range(200)}
    assert found == {(0, 4), (1,), (2, 5), (3,), (0, 4, 1), (1, 2, 5), (2, 5, 3)}


def test_picks_are_those_that_exhaustive_greedy_search_picks() -> None:
    rng = np.random.default_rng(5)
    front = np.array([[0.0, 0.5, 1.0], [1.0, 0.5, 0.0], [0.5, 1.0, 0.5], [0.6, 0.0, 0.9]])
    guesses = rng.uniform(0.1, 0.9, (40, 3))
    picked = greedy_hypervolume(front, (guesses,), 5, lambda one, others: False)
    held, expected = front, []
    for _ in range(5):
        gains = [moocore.hypervolume(np.vstack([held, each]), ref=np.full(3, BEYOND)) for each in guesses]
        expected.append(int(np.argmax(gains)))
        held = np.vstack([held, guesses[expected[-1]]])
    assert picked == expected


def test_picks_are_apart_and_none_is_picked_that_adds_nothing() -> None:
    front = np.array([[0.0, 1.0], [1.0, 0.0]])
    guesses = np.array([[0.2, 0.2], [0.21, 0.21], [0.1, 0.5], [1.0, 1.0], [2.0, -1.0]])
    near = lambda one, others: any(abs(one - other) == 1 for other in others)  # noqa: E731
    assert greedy_hypervolume(front, (guesses,), 5, near) == [0, 2]


def test_sources_share_by_what_they_gained_and_none_is_left_out() -> None:
    sources = Sources()
    assert sources.searched(40) == 20
    for _ in range(10):
        sources.reward(np.array([0.0, 0.0, 1.0, 1.0]), np.array([True, True, False, False]))
    assert sources.searched(40) == round(40 * (1 - LEAST))
    for _ in range(20):
        sources.reward(np.array([1.0, 0.0]), np.array([True, False]))
    assert sources.searched(40) == round(40 * LEAST)
    sources.reward(np.zeros(0), np.zeros(0, dtype=bool))


def test_a_surrogate_predicts_orders_knows_its_doubt_and_is_the_same_each_time() -> None:
    x = points(180)
    errors, even = PROBLEM.objectives(x)[:, 0], x / HIGH
    first, second = Surrogate(), Surrogate()
    for surrogate in (first, second):
        surrogate.fit(even[:120], errors[:120])
    guesses = first.mean(even[120:])
    assert np.corrcoef(guesses, errors[120:])[0, 1] > 0.7
    assert (guesses == second.mean(even[120:])).all()
    assert first.optimistic(even[120:], 0.0) == pytest.approx(guesses)
    assert (first.optimistic(even[120:], 1.0) < guesses).all()
    assert first.deviation(even[:120]).mean() < first.deviation(even[120:]).mean()


def test_a_flat_objective_can_be_fitted() -> None:
    grid = np.array(list(itertools.product([0.0, 0.5, 1.0], repeat=3)))
    surrogate = Surrogate()
    surrogate.fit(grid, np.full(27, 4.0))
    assert surrogate.mean(grid) == pytest.approx(np.full(27, 4.0), abs=1e-6)

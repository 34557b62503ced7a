"""Every selector of the portfolio, by the same rules."""

from __future__ import annotations

from typing import Any

import moocore
import numpy as np
import pytest

from hwloop.search.hamp import SELECTORS
from hwloop.search.hamp.portfolio import FLOOR, Portfolio, elect
from hwloop.search.hamp.selection.order import scaled

NAMES = list(SELECTORS)


def cloud(count: int, objectives: int, seed: int) -> np.ndarray:
    """A spherical front of half the points, the others behind it."""
    rng = np.random.default_rng(seed)
    points = np.abs(rng.normal(size=(count, objectives)))
    points = 1 - points / np.linalg.norm(points, axis=1, keepdims=True)
    points[count // 2 :] += 0.3
    return points[rng.permutation(count)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_an_order_has_every_place_once(name: str, objectives: int) -> None:
    values = scaled(cloud(40, objectives, 1))
    for keep in (1, 7, 39, 40):
        assert sorted(SELECTORS[name](values, keep)) == list(range(40))


@pytest.mark.parametrize("name", NAMES)
def test_points_behind_the_front_wait(name: str) -> None:
    values = scaled(cloud(60, 3, 2))
    best = moocore.is_nondominated(values)
    kept = SELECTORS[name](values, 20)[:20]
    assert best[kept].mean() > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_covers_more_than_chance_would(name: str) -> None:
    values = scaled(cloud(100, 3, 3))
    rng = np.random.default_rng(0)

    def volume(places: Any) -> float:
        return float(moocore.hypervolume(values[places], ref=np.full(3, 1.1)))

    by_chance = [volume(rng.choice(100, 15, replace=False)) for _ in range(20)]
    assert volume(SELECTORS[name](values, 15)[:15]) > max(by_chance)


@pytest.mark.parametrize("name", NAMES)
def test_equal_points_and_flat_objectives_are_put_in_some_order(name: str) -> None:
    values = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert sorted(SELECTORS[name](scaled(values), 2)) == [0, 1, 2, 3]


def test_the_best_hypervolume_is_kept_where_one_has_to_go() -> None:
    values = scaled(cloud(14, 3, 4))
    values = values[moocore.is_nondominated(values)]
    kept = set(SELECTORS["hypervolume"](values, len(values) - 1)[:-1].tolist())
    volumes = [
        moocore.hypervolume(np.delete(values, place, axis=0), ref=np.full(3, 1.1)) for place in range(len(values))
    ]
    assert kept == set(range(len(values))) - {int(np.argmax(volumes))}


def test_one_selector_alone_decides() -> None:
    values = cloud(50, 3, 5)
    alone = Portfolio({"hypervolume": SELECTORS["hypervolume"]})
    chosen, kept_by = alone.select(values, 20)
    assert chosen.tolist() == SELECTORS["hypervolume"](scaled(values), 20)[:20].tolist()
    assert kept_by.all()


def test_a_vote_keeps_what_all_want_and_then_what_weighs_most() -> None:
    orders = [np.array([0, 1, 2, 3, 4]), np.array([0, 4, 3, 2, 1])]
    assert elect(orders, np.array([0.9, 0.1]), 3).tolist() == [0, 1, 2]
    assert elect(orders, np.array([0.1, 0.9]), 3).tolist() == [0, 4, 3]
    assert elect(orders, np.array([0.5, 0.5]), 5)[0] == 0


def test_ranks_of_what_a_selector_would_not_keep_do_not_count() -> None:
    orders = [np.array([0, 1, 2, 3]), np.array([2, 3, 0, 1])]
    other = [np.array([0, 1, 3, 2]), np.array([2, 3, 1, 0])]
    weights = np.array([0.6, 0.4])
    assert elect(orders, weights, 2).tolist() == elect(other, weights, 2).tolist()


def test_weights_follow_what_parents_gain_on_whom_selectors_disagree_and_leave_everyone_some() -> None:
    portfolio = Portfolio(SELECTORS)
    assert portfolio.weights.tolist() == pytest.approx([0.25] * 4)
    for _ in range(20):
        portfolio.reward(np.array([1.0, 0.0]), np.array([[1.0, 0, 0, 0], [0, 1.0, 1.0, 1.0]]))
    assert portfolio.weights[0] > 0.8
    assert (portfolio.weights[1:] >= FLOOR / 4).all()
    assert portfolio.weights.sum() == pytest.approx(1)


def test_parents_whom_everybody_would_keep_tell_nothing() -> None:
    portfolio, same = Portfolio(SELECTORS), Portfolio(SELECTORS)
    for _ in range(5):
        portfolio.reward(np.array([0.3, 0.0, 0.2]), np.ones((3, 4)))
    assert portfolio.weights.tolist() == pytest.approx([0.25] * 4)
    same.reward(np.zeros(3), np.eye(4)[:3])
    assert same.weights.tolist() == pytest.approx([0.25] * 4)


def test_a_portfolio_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one selector"):
        Portfolio({})

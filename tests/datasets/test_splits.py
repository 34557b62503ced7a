"""Stratified splits keep the shares of the classes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hwloop.datasets.splits import other_rows, stratified_rows


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.floats(0, 1), st.integers(0, 100))
def test_every_class_gets_its_share_up_to_one(values: list[int], share: float, seed: int) -> None:
    labels = np.array(values)
    count = int(share * len(labels))
    rows = stratified_rows(labels, count, seed)
    assert len(rows) == len(set(rows.tolist())) == count
    assert rows.tolist() == sorted(rows.tolist())
    for label in set(values):
        expected = (labels == label).sum() * count / len(labels)
        assert abs((labels[rows] == label).sum() - expected) < 1
    assert sorted([*rows.tolist(), *other_rows(len(labels), rows).tolist()]) == list(range(len(labels)))


def test_the_seed_decides() -> None:
    labels = np.arange(100) % 10
    assert np.array_equal(stratified_rows(labels, 30, 1), stratified_rows(labels, 30, 1))
    assert not np.array_equal(stratified_rows(labels, 30, 1), stratified_rows(labels, 30, 2))

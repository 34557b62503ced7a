"""Rungs shrink evenly and one step at a time, and the first that is fast enough is found."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hwloop.models import build_model
from hwloop.pruning import PruningSpace, pruning_space
from hwloop.pruning.ladder import first_rung, ladder


@pytest.fixture(scope="module")
def space() -> PruningSpace:
    torch.manual_seed(0)
    module = build_model("resnet8", num_classes=10, in_channels=1, arguments={"shortcut": "projection"})
    return pruning_space(module, (1, 16, 16), grain=4)


@pytest.mark.parametrize("with_blocks", [True, False])
def test_every_rung_is_a_candidate_and_no_larger_than_the_one_before(space: PruningSpace, with_blocks: bool) -> None:
    order = [block.name for block in reversed(space.blocks)] if with_blocks else []
    rungs = ladder(space, order)
    assert rungs[0] == space.base
    assert len(set(rungs)) == len(rungs) > 10
    assert all(space.contains(rung) for rung in rungs)
    for before, after in itertools.pairwise(rungs):
        assert set(before.removed) <= set(after.removed)
        lost = [index for index, group in enumerate(space.groups) if after.widths[index] == group.width]
        kept = [index for index in range(len(space.groups)) if index not in lost]
        smaller = [index for index in kept if after.widths[index] != before.widths[index]]
        assert all(after.widths[index] < before.widths[index] for index in smaller)
        assert len(smaller) + len(set(after.removed) - set(before.removed)) == 1, "one step at a time"
    smallest = rungs[-1]
    assert set(smallest.removed) == set(order)
    again = space.candidate([space.levels(index)[0] for index in range(len(space.groups))], space.remains(smallest))
    assert smallest == again


def test_blocks_go_in_the_order_that_is_given(space: PruningSpace) -> None:
    order = [block.name for block in space.blocks]
    for one in (order, order[::-1]):
        removed = [set(rung.removed) for rung in ladder(space, one)]
        assert all(gone == set(one[: len(gone)]) for gone in removed)


@given(st.integers(1, 200), st.data())
def test_the_first_rung_that_reaches_the_goal_is_found_with_few_questions(count: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, count))
    asked: list[int] = []

    def reaches(rung: int) -> bool:
        asked.append(rung)
        return rung >= first

    assert first_rung(count, reaches) == (first if first < count else None)
    assert len(asked) <= count.bit_length() + 1

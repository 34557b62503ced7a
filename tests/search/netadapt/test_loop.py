"""The decisions of NetAdapt, and the loop over the toy problem."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from hwloop.errors import ConfigError, UserError
from hwloop.pruning import Candidate
from hwloop.search import Journal
from hwloop.search.netadapt import Lineage, NetAdaptSettings, recipe
from hwloop.search.netadapt.loop import Proposal, propose, reduction, select

SETTINGS = NetAdaptSettings(resource="macs", budget=0.5, step=0.05)


def netadapt(toy: Any, journal: Journal, lineage: Lineage | None = None, **options: Any) -> Any:
    given = {"algorithm": recipe(SETTINGS, lineage), "generations": 60, "objectives": ("error", "macs")}
    return toy.search(journal, **(given | options))


def winners(result: Any, lineage: Lineage) -> list[Candidate]:
    """What the proposals of each iteration were cut from, in order."""
    return list(dict.fromkeys(p for e in result.evaluated if (p := lineage.parent(e.candidate)) is not None))


def test_the_reductions_guarantee_what_the_released_scripts_can() -> None:
    settings = NetAdaptSettings()
    saved = np.cumsum([reduction(settings, 1.0, iteration) for iteration in range(1, 1000)])
    assert saved[17] == pytest.approx(0.325, abs=5e-4)
    assert saved[27] == pytest.approx(0.426, abs=5e-4)
    assert saved[29] == pytest.approx(0.441, abs=5e-4)
    assert saved[-1] == pytest.approx(0.625, abs=1e-9)


def test_each_group_is_cut_alone_and_no_further_than_the_target_asks(toy: Any) -> None:
    space = toy.Space(widths=(16, 32, 32), step=8)
    looked_at: list[tuple[int, ...]] = []

    def resource(candidates: Any) -> list[float]:
        looked_at.extend(c.widths for c in candidates)
        return [float(sum(c.widths)) for c in candidates]

    found = propose(space, space.base, 64.0, resource)
    assert [p.candidate.widths for p in found] == [(8, 32, 32), (16, 8, 32), (16, 32, 8)]
    assert [p.resource for p in found] == [72.0, 56.0, 56.0]  # the first group cannot reach the target
    assert len(looked_at) == len(set(looked_at)) == 1 + 3 + 3
    assert not propose(space, Candidate((8, 8, 8)), 0.0, resource)


def test_the_paper_takes_the_most_accurate_and_the_released_code_the_cheapest_loss() -> None:
    a, b, c, d = (Proposal(Candidate((width,)), need) for width, need in ((1, 8.0), (2, 5.0), (3, 9.6), (4, 10.0)))
    now = Proposal(Candidate((9,)), 10.0)
    errors = [0.12, 0.14, 0.10, 0.01]
    ratio = NetAdaptSettings(select="ratio")
    assert select(SETTINGS, now, 0.1, [a, b, c, d], errors, 9.5) == a  # c does not reach the target, d saves nothing
    assert select(ratio, now, 0.1, [a, b, c, d], errors, 9.5) == b  # 0.04 for 5 is less than 0.02 for 2
    assert select(SETTINGS, now, 0.1, [c, d], errors[2:], 9.5) == c
    assert select(SETTINGS, now, 0.1, [d], errors[3:], 9.5) is None


def test_the_loop_ends_at_its_budget_and_every_iteration_saves_what_it_must(toy: Any) -> None:
    lineage = Lineage()
    result = netadapt(toy, toy.MemoryJournal(), lineage)
    values = {e.candidate: dict(zip(result.objectives, e.values, strict=True)) for e in result.evaluated}
    base = toy.Space().base
    path = winners(result, lineage)
    last = [e.candidate for e in result.evaluated if lineage.parent(e.candidate) == path[-1]]
    needs = [values[c]["macs"] for c in path]
    assert path[0] == base
    assert not result.exhausted
    assert min(values[c]["macs"] for c in last) <= SETTINGS.budget * needs[0] < needs[-1]
    for iteration, (before, after) in enumerate(itertools.pairwise(needs), start=1):
        assert after < before - reduction(SETTINGS, needs[0], iteration)
    for parent, child in itertools.pairwise(path):
        assert sum(a != b for a, b in zip(parent.widths, child.widths, strict=True)) == 1
        rivals = [e.candidate for e in result.evaluated if lineage.parent(e.candidate) == parent]
        reached = [c for c in rivals if values[c]["macs"] <= values[child]["macs"]]
        assert values[child]["error"] == min(values[c]["error"] for c in reached)


def test_a_loop_killed_at_any_evaluation_goes_on_to_the_same_end(toy: Any) -> None:
    whole = toy.MemoryJournal()
    expected = netadapt(toy, whole)
    for kill_at in range(0, len(whole.records) - 1, 7):
        journal, lineage = toy.MemoryJournal(), Lineage()
        with pytest.raises(InterruptedError):
            netadapt(toy, journal, evaluator=toy.evaluator(toy.Judge(fail_after=kill_at)))
        again = netadapt(toy, journal, lineage)
        assert journal.records == whole.records
        assert (again.evaluated, again.front) == (expected.evaluated, expected.front)
        assert all(lineage.parent(e.candidate) is not None for e in again.evaluated[1:])  # also of what was replayed


def test_a_space_that_cannot_reach_the_budget_is_cut_to_its_end_and_said_so(toy: Any) -> None:
    hard = recipe(NetAdaptSettings(resource="macs", budget=0.001, step=0.2))
    result = netadapt(toy, toy.MemoryJournal(), algorithm=hard)
    assert not result.exhausted
    assert result.evaluated[-1].candidate.widths == tuple(toy.Space().levels(group)[0] for group in range(6))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"algorithm": "netadapt"}, "needs 'latency_ms' among the objectives, given are error, macs"),
        ({"objectives": ("latency_ms", "macs")}, "needs 'error'"),
        ({"algorithm": recipe(NetAdaptSettings(resource="error"))}, "cannot be the error"),
    ],
)
def test_what_netadapt_cannot_do_is_refused(toy: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        netadapt(toy, toy.MemoryJournal(), **options)


def test_settings_out_of_range_are_refused_and_a_journal_holds_them(toy: Any) -> None:
    for wrong in ({"budget": 1.0}, {"step": 0.0}, {"decay": 1.5}, {"select": "luck"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            NetAdaptSettings(**wrong)
    journal = toy.MemoryJournal()
    netadapt(toy, journal, generations=2)
    with pytest.raises(UserError, match=r"netadapt_step was 0\.05, is 0\.1"):
        netadapt(toy, journal, algorithm=recipe(NetAdaptSettings(resource="macs", budget=0.5, step=0.1)))

"""The device takes part in the search: what it says changes the search, and a kill changes nothing."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwloop.errors import DeviceError, StudyError, UserError
from hwloop.pruning import Candidate
from hwloop.search import HardwareLoop, Measured, list_algorithms, parse_constraints
from hwloop.search.probing import allowance, choose_probes, undecided

TRUTH = 1.3
"""The device is slower than predicted by this factor."""


@dataclass
class Bench:
    """A device whose latency is a formula; remembers what it measured, as a trial store does."""

    toy: Any
    store: dict[Candidate, Measured] = field(default_factory=dict)
    asked: list[Candidate] = field(default_factory=list)
    lost_after: int | None = None

    def measure(self, candidates: Sequence[Candidate]) -> list[Measured]:
        for candidate in candidates:
            if candidate not in self.store:
                if self.lost_after is not None and len(self.store) >= self.lost_after:
                    raise DeviceError("the board burns")
                self.asked.append(candidate)
                latency = self.toy.Model(slowdown=TRUTH).predict([candidate.widths]).latency_ms[0]
                self.store[candidate] = Measured(candidate, float(latency), 60_000_000)
        return [self.store[candidate] for candidate in candidates]


@dataclass
class Prober:
    """Measures in a thread, as the study's does."""

    bench: Bench
    found: list[Measured] = field(default_factory=list)
    failure: Exception | None = None
    thread: threading.Thread | None = None

    def send(self, candidates: Sequence[Candidate]) -> None:
        self.found, self.failure = [], None
        self.thread = threading.Thread(target=self._run, args=(list(candidates),))
        self.thread.start()

    def collect(self) -> list[Measured]:
        assert self.thread is not None
        self.thread.join()
        if self.failure:
            raise self.failure
        return self.found

    def _run(self, candidates: list[Candidate]) -> None:
        try:
            self.found = self.bench.measure(candidates)
        except DeviceError as error:
            self.failure = error


def searched(toy: Any, journal: Any, bench: Bench, judge: Any = None, trials: int = 12, **options: Any) -> Any:
    def refit(measured: Sequence[Measured]) -> Any:
        predicted = toy.Model().predict([each.candidate.widths for each in measured]).latency_ms
        ratio = float(np.mean([each.latency_ms for each in measured] / predicted))
        return toy.Model(slowdown=ratio, spread=0.3 / (1 + len(measured)))

    loop = HardwareLoop(trials, Prober(bench), refit)
    return toy.search(
        journal, judge or toy.error_of, predictor=toy.Model(spread=0.3), hardware=loop, **({"generations": 6} | options)
    )


def bits(result: Any) -> str:
    return repr((result.front, result.evaluated, result.hypervolume, result.reference, result.probes, result.measured))


@pytest.mark.parametrize("algorithm", list_algorithms())
def test_measurements_correct_the_predictions_of_everything(toy: Any, algorithm: str) -> None:
    if algorithm == "age-moea2":
        pytest.importorskip("numba")
    bench = Bench(toy)
    result = searched(toy, toy.MemoryJournal(), bench, algorithm=algorithm)
    assert 0 < len(bench.asked) <= 12
    assert len(set(bench.asked)) == len(bench.asked) == len(result.measured) == len(result.probes)
    truth = toy.Model(slowdown=TRUTH).predict([each.candidate.widths for each in result.evaluated]).latency_ms
    assert [each.values[1] for each in result.evaluated] == pytest.approx(truth)
    for probe in result.probes[:1]:  # sent before anything was known
        assert probe.predicted_ms == toy.Model().predict([probe.candidate.widths]).latency_ms[0]
        assert probe.low_ms < probe.predicted_ms < probe.high_ms


def test_a_search_killed_anywhere_asks_the_device_for_nothing_twice_and_ends_the_same(toy: Any) -> None:
    whole = toy.MemoryJournal()
    expected = searched(toy, whole, Bench(toy))
    kinds = [record["kind"] for record in whole.records]
    assert kinds.count("sent") == kinds.count("taken") >= 3
    rng = random.Random(2)
    for _ in range(12):
        cut = rng.randrange(1, len(whole.records))  # the journal as a kill leaves it; the device may be further
        bench = Bench(toy)
        journal = toy.MemoryJournal(whole.records[:cut])
        for record in whole.records[: cut + rng.randrange(2)]:
            if record["kind"] == "sent":
                bench.measure([Candidate(tuple(each["widths"])) for each in record["probes"]])
        assert bits(searched(toy, journal, bench)) == bits(expected)
        assert json.dumps(journal.records) == json.dumps(whole.records)
        assert len(bench.asked) == len(set(bench.asked)) == len(expected.probes)
    untouched = Bench(toy, lost_after=0)
    assert bits(searched(toy, whole, untouched, toy.Judge(fail_after=0))) == bits(expected)
    assert not untouched.asked


def test_a_search_that_dies_while_the_device_measures_goes_on(toy: Any) -> None:
    expected = searched(toy, toy.MemoryJournal(), Bench(toy))
    for fail_after in (17, 30, 47):
        journal, bench = toy.MemoryJournal(), Bench(toy)
        with pytest.raises(InterruptedError):
            searched(toy, journal, bench, toy.Judge(fail_after=fail_after))
        assert bits(searched(toy, journal, bench)) == bits(expected)


def test_a_lost_device_does_not_end_the_search(toy: Any) -> None:
    journal, bench = toy.MemoryJournal(), Bench(toy, lost_after=3)
    result = searched(toy, journal, bench)
    assert len(result.evaluated) > 60
    assert len(bench.asked) == 3
    assert [record["lost"] for record in journal.records if record["kind"] == "taken"][-1] == "the board burns"
    assert bits(searched(toy, journal, Bench(toy), toy.Judge(fail_after=0))) == bits(result)


def test_another_budget_is_another_search_and_damage_is_refused(toy: Any) -> None:
    journal = toy.MemoryJournal()
    searched(toy, journal, Bench(toy))
    with pytest.raises(StudyError, match="device_trials was 12, is 13"):
        searched(toy, journal, Bench(toy), trials=13)
    sent = next(record for record in journal.records if record["kind"] == "sent")
    with pytest.raises(StudyError, match="twice"):
        searched(toy, toy.MemoryJournal([*journal.records, sent]), Bench(toy))
    with pytest.raises(StudyError, match="damaged record of a measurement"):
        searched(toy, toy.MemoryJournal([*journal.records, {"kind": "taken"}]), Bench(toy))


def test_a_front_keeps_its_limits_by_the_upper_ends_of_the_intervals(toy: Any) -> None:
    free = toy.search(toy.MemoryJournal(), predictor=toy.Model(spread=0.3))
    limit = 1.3 * float(np.median([each.values[1] for each in free.front]))
    constraints = parse_constraints([f"latency_ms <= {limit}", "peak_memory_mb <= 62"])
    result = toy.search(toy.MemoryJournal(), predictor=toy.Model(spread=0.3), constraints=constraints)
    assert result.front
    for each in result.front:
        assert 1.3 * each.values[1] <= limit
        assert each.values[2] <= 62
    kept = sum(1.3 * each.values[1] <= limit for each in result.evaluated) / len(result.evaluated)
    assert kept > sum(1.3 * each.values[1] <= limit for each in free.evaluated) / len(free.evaluated)
    journal = toy.MemoryJournal()
    toy.search(journal, constraints=constraints, generations=1)
    with pytest.raises(StudyError, match="constraints was latency_ms <= "):
        toy.search(journal, constraints=constraints[:1], generations=1)
    never = parse_constraints(["latency_ms <= 0.001"])
    assert toy.search(toy.MemoryJournal(), constraints=never).front == ()
    with pytest.raises(UserError, match=r"the predictor never saw peak_memory_mb measured"):
        toy.search(
            toy.MemoryJournal(),
            objectives=("error", "macs"),
            predictor=toy.Model(memory=False),
            constraints=constraints,
        )


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["latency_ms < 5"], "is not of the form"),
        (["latency_ms <= fast"], "is not of the form"),
        (["latency_ms <= -1"], "is not of the form"),
        (["watts <= 5"], "unknown quantity; known are latency_ms, peak_memory_mb, energy_mj, parameters"),
        (["macs <= 5", "macs <= 6"], "limited twice"),
    ],
)
def test_constraints_that_say_nothing_are_refused(texts: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_constraints(texts)


points = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=12)


@given(points)
def test_a_candidate_is_undecided_when_the_intervals_allow_both(
    drawn: list[tuple[int, int, int]],
) -> None:
    values = np.array([(error, latency) for error, latency, _ in drawn], dtype=float)
    half = np.array([width for _, _, width in drawn], dtype=float)
    low, high = values - np.column_stack([0 * half, half]), values + np.column_stack([0 * half, half])
    found = undecided(low, high)

    def dominated(point: Any, others: Any) -> bool:
        return any((other <= point).all() and (other < point).any() for other in others)

    for index in range(len(drawn)):
        others = [place for place in range(len(drawn)) if place != index]
        best = not dominated(low[index], high[others])
        worst = dominated(high[index], low[others])
        assert found[index] == (best and worst)


def test_probes_go_to_unclear_elites_first_and_never_to_what_is_settled() -> None:
    front = np.array([True, True, False, False, True])
    unclear = np.array([False, True, True, False, True])
    widths = np.array([0.9, 0.1, 0.5, 0.9, 0.1])
    nothing = np.zeros(5, dtype=bool)
    assert choose_probes(9, front, unclear, widths, nothing).tolist() == [1, 4, 2, 0]
    assert choose_probes(2, front, unclear, widths, np.array([0, 1, 0, 0, 0], dtype=bool)).tolist() == [4, 2]
    assert choose_probes(-1, front, unclear, widths, nothing).tolist() == []
    assert [allowance(10, generation, 6) for generation in range(6)] == [0, 2, 4, 6, 8, 10]
    assert allowance(10, 0, 1) == 0

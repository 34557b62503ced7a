"""The loop stops when it is good enough or paid for, and takes the same way again after a stop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from hwloop.errors import UserError
from hwloop.measurement import Limits, Step, TrialStore, curve_of, sample_adaptively


class Lab:
    """Each name takes a second; the error is one over the number of names that were measured."""

    def __init__(self, dies_at: int = 10**9) -> None:
        self.known: list[str] = []
        self.now = 0.0
        self.dies_at = dies_at

    def measure(self, names: Sequence[str]) -> None:
        for name in names:
            if len(self.known) >= self.dies_at:
                raise KeyboardInterrupt
            self.now += 1.0
            self.known.append(name)

    def decide(self) -> Step:
        count = len(self.known)
        return Step(1 / count, [f"n{count + i}" for i in range(3)])

    def run(self, limits: Limits, path: Path) -> list[tuple[int, float, float]]:
        with TrialStore(path) as store:
            curve = sample_adaptively(["n0", "n1"], self.measure, self.decide, limits, store, lambda: self.now)
        return [(point.measurements, point.seconds, point.error) for point in curve]


def test_it_stops_at_the_error(tmp_path: Path) -> None:
    curve = Lab().run(Limits(100, 1000, 0.1), tmp_path / "trials.ndjson")
    assert curve == [(2, 2, 1 / 2), (5, 5, 1 / 5), (8, 8, 1 / 8), (11, 11, 1 / 11)]


def test_it_stops_at_the_number_of_measurements(tmp_path: Path) -> None:
    lab = Lab()
    assert lab.run(Limits(9, 1000), tmp_path / "trials.ndjson")[-1] == (9, 9, 1 / 9)
    assert lab.known == [f"n{i}" for i in range(9)]


def test_it_stops_when_the_time_is_spent(tmp_path: Path) -> None:
    assert Lab().run(Limits(100, 6), tmp_path / "trials.ndjson")[-1][0] == 8


def test_it_stops_when_nothing_more_is_worth_it(tmp_path: Path) -> None:
    lab = Lab()
    lab.decide = lambda: Step(math.inf)  # type: ignore[method-assign]
    assert lab.run(Limits(), tmp_path / "trials.ndjson") == [(2, 2, math.inf)]
    with TrialStore(tmp_path / "trials.ndjson") as store:
        assert curve_of(store)[0].error == math.inf


def test_a_stopped_loop_goes_the_same_way_and_its_time_counts_once(tmp_path: Path) -> None:
    path, limits = tmp_path / "trials.ndjson", Limits(14, 1000)
    whole = Lab().run(limits, tmp_path / "other.ndjson")
    with pytest.raises(KeyboardInterrupt):
        Lab(dies_at=6).run(limits, path)
    lab = Lab()
    assert lab.run(limits, path) == whole
    with TrialStore(path) as store:
        assert [(p.measurements, p.seconds, p.error) for p in curve_of(store)] == whole


@pytest.mark.parametrize("bad", [{"measurements": 0}, {"seconds": 0.0}, {"error": -0.1}, {"seconds": float("nan")}])
def test_limits_that_allow_nothing_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(UserError, match="allow at least one measurement"):
        Limits(**bad)  # type: ignore[arg-type]

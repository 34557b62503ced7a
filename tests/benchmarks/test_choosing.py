"""The rule of the benchmark `equal-latency`: the least estimated error among networks measured to be in time."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from hwloop.measurement import Interval, Measurement
from hwloop.pruning import Candidate
from hwloop.search import Evaluated
from tests.benchmarks.choosing import Choice, Predict, settle_choices

TARGET_MS = 1.0


def network(error: float, channels: int) -> Evaluated:
    return Evaluated(f"conv={channels}", Candidate((channels,), ()), (error,), 0, 0.0)


def predict(candidates: Sequence[Candidate], scale: float = 1.0) -> NDArray[np.float64]:
    return np.array([scale * one.widths[0] / 100 for one in candidates])


class Device:
    """Runs every network slower than predicted; remembers what it was asked for."""

    def __init__(self, slower: float, broken: Collection[int] = ()) -> None:
        self.slower, self.broken = slower, broken
        self.asked: list[set[int]] = []

    def measure(self, candidates: Collection[Candidate]) -> Mapping[Candidate, Measurement]:
        self.asked.append({one.widths[0] for one in candidates})
        return {one: self._measured(one.widths[0]) for one in candidates}

    def _measured(self, channels: int) -> Measurement:
        latency = math.nan if channels in self.broken else self.slower * channels / 100
        status = "crashed" if channels in self.broken else "ok"
        interval = Interval(latency, latency)
        return Measurement("", status, (), latency, interval, (latency,), 0, 0, "none", ())


def learns_nothing(_measured: Mapping[Candidate, Measurement]) -> Predict:
    return predict


FRONT = [network(0.1, 120), network(0.2, 95), network(0.3, 85), network(0.4, 50)]


def test_the_most_accurate_network_that_the_device_runs_in_time_is_taken() -> None:
    choice, device = Choice("some", TARGET_MS, FRONT), Device(slower=1.1)
    settle_choices([choice], 5, predict, device.measure, learns_nothing)
    assert choice.taken == FRONT[2]
    assert choice.tried == FRONT[1:3]  # the first is predicted too slow and never measured
    assert device.asked == [{95}, {85}]


def test_measurements_of_one_method_spare_another_what_cannot_be_in_time() -> None:
    first, second = Choice("first", TARGET_MS, FRONT), Choice("second", TARGET_MS, [network(0.2, 96), *FRONT[2:]])
    device = Device(slower=1.2)
    settle_choices(
        [first, second], 5, predict, device.measure, lambda _measured: lambda asked: predict(asked, device.slower)
    )
    assert (first.taken, second.taken) == (FRONT[3], FRONT[3])
    assert device.asked == [{95, 96}, {50}]  # 85 is known to be too slow by then


@pytest.mark.parametrize(("tries", "front"), [(1, FRONT), (5, FRONT[:2]), (5, [])])
def test_nothing_is_taken_that_was_not_measured_to_be_in_time(tries: int, front: list[Evaluated]) -> None:
    choice, device = Choice("some", TARGET_MS, front), Device(slower=1.1)
    settle_choices([choice], tries, predict, device.measure, learns_nothing)
    assert choice.taken is None
    assert len(choice.tried) <= tries


def test_a_network_that_could_not_be_measured_is_not_taken() -> None:
    choice, device = Choice("some", TARGET_MS, FRONT), Device(slower=1.0, broken=[95])
    settle_choices([choice], 5, predict, device.measure, learns_nothing)
    assert choice.taken == FRONT[2]

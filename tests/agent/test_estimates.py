"""What the harness says of a runtime whose durations are known."""

from __future__ import annotations

import statistics as stdlib_statistics

import pytest

from hwloop_agent.runtimes import UnsupportedError
from hwloop_agent.runtimes.null_runtime import DEFAULTS, durations_ns
from hwloop_agent.statistics import summarize
from hwloop_agent.timing import TimingSpec, measure, warm_up

SPEC = TimingSpec(0.0, 1, 0.0, 3.0, 15, 400, 1, 0.02, 0.95)


@pytest.mark.parametrize(
    ("kind", "spread"), [("constant", 0.0), ("uniform", 0.5), ("exponential", 0.0), ("lognormal", 0.4)]
)
def test_the_drawn_durations_have_the_median_that_was_asked_for(kind, spread):
    drawn = durations_ns({**DEFAULTS, "distribution": kind, "median_us": 250.0, "spread": spread})
    assert stdlib_statistics.median(drawn) == pytest.approx(250_000, rel=0.05)


def test_an_unknown_distribution_is_refused():
    with pytest.raises(UnsupportedError):
        durations_ns({**DEFAULTS, "distribution": "cauchy"})


@pytest.mark.parametrize("kind", ["constant", "uniform", "exponential", "lognormal"])
def test_on_an_exact_clock_the_median_is_unbiased_and_its_interval_honest(kind):
    covered = 0
    for seed in range(24):
        drawn = durations_ns({**DEFAULTS, "distribution": kind, "median_us": 250.0, "spread": 0.3, "seed": seed})
        now, at = 0, 0

        def run():
            nonlocal now, at
            now += drawn[at % len(drawn)]  # noqa: B023  # the closure lives in this iteration only
            at += 1

        warm_up(run, SPEC, lambda: now)  # noqa: B023
        samples = sorted(measure(run, 1, SPEC, lambda: now).samples_ns)  # noqa: B023
        found = summarize(samples)
        covered += found.low <= 250_000 <= found.high
        assert found.median == pytest.approx(250_000, rel=0.25)
    assert covered >= 20

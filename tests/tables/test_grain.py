"""The step of a latency staircase is learned from a sweep."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwloop.errors import UserError
from hwloop.tables import learn_grain, pool_grains

SWEEP = np.arange(1, 129)


def staircase(widths: np.ndarray, step: int, noise: float, seed: int, share: float = 0.9) -> np.ndarray:
    """Latencies of which `share` (at 128 channels) grows with blocks of `step`."""
    rng = np.random.default_rng(seed)
    clean = (1 - share) + share * np.ceil(widths / step) * step / 128
    return 0.05 * clean * np.exp(noise * rng.standard_normal(len(widths)))


@settings(max_examples=60, deadline=None, derandomize=True)  # a claim about noise: rare seeds may differ
@given(st.sampled_from([1, 2, 4, 8, 16, 32]), st.integers(0, 10_000))
def test_a_noisy_staircase_gives_its_step(step: int, seed: int) -> None:
    assert learn_grain(SWEEP, staircase(SWEEP, step, 0.01, seed), noise=0.01).step == step


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.floats(0.002, 0.1))
def test_a_smooth_line_gives_one_however_noisy(seed: int, noise: float) -> None:
    assert learn_grain(SWEEP, staircase(SWEEP, 1, noise, seed), noise=noise).step == 1


def test_latency_that_does_not_depend_on_the_width_gives_one() -> None:
    rng = np.random.default_rng(0)
    assert learn_grain(SWEEP, 0.02 * np.exp(0.03 * rng.standard_normal(128)), noise=0.03).step == 1


def test_a_staircase_drowned_in_noise_is_not_believed() -> None:
    assert learn_grain(SWEEP[:24], staircase(SWEEP[:24], 8, 0.5, 3), noise=0.5).step == 1


def test_a_sweep_in_steps_of_eight_cannot_prove_a_step_of_eight() -> None:
    widths = np.arange(8, 129, 8)
    grain = learn_grain(widths, staircase(widths, 8, 0.001, 0), noise=0.001)
    assert (grain.step, grain.evidence) == (1, 0.0)


def test_the_evidence_grows_as_the_noise_falls() -> None:
    quiet, loud = (learn_grain(SWEEP, staircase(SWEEP, 16, noise, 5), noise) for noise in (0.003, 0.05))
    assert quiet.step == loud.step == 16
    assert quiet.evidence > loud.evidence > 10


AVX2 = {
    4: 103, 7: 104, 8: 104, 10: 114, 13: 122, 16: 122, 19: 144, 22: 142, 24: 149, 25: 168, 28: 166, 31: 168, 32: 172,
    34: 237, 37: 237, 40: 238, 43: 248, 46: 246, 48: 259, 49: 279, 52: 277, 55: 285, 56: 277, 58: 285, 61: 302, 64: 301,
}  # fmt: skip
"""Microseconds of a 3x3 convolution, 16 channels in, 32x32 map, onnxruntime 1.31.1 on a Zen 3 (AVX2), other jobs
running: blocks of 8, of which four are taken at once."""


def test_a_real_staircase_with_uneven_steps_is_seen() -> None:
    grain = learn_grain(list(AVX2), list(AVX2.values()), noise=0.02)
    assert grain.step == 8
    assert grain.evidence > 10


def test_a_smooth_curve_is_no_staircase() -> None:
    rng = np.random.default_rng(0)
    for power in (0.7, 1.3, 2.0):
        bent = (0.1 + (SWEEP / 128) ** power) * np.exp(0.01 * rng.standard_normal(128))
        assert learn_grain(SWEEP, bent, noise=0.01).step == 1


def test_a_few_odd_widths_are_enough() -> None:
    widths = np.array([3, 8, 9, 12, 16, 17, 24, 29, 32, 40])
    assert learn_grain(widths, staircase(widths, 8, 0.01, 1), noise=0.01).step == 8


def test_sweeps_that_are_each_too_weak_agree_on_the_step() -> None:
    widths = np.array([2, 5, 8, 10, 13, 16, 18, 21, 24, 26, 29, 32])
    sweeps = [learn_grain(widths, staircase(widths, 8, 0.04, seed, share=0.6), noise=0.04) for seed in range(12)]
    assert {grain.step for grain in sweeps} != {8}
    assert pool_grains(sweeps).step == 8
    assert pool_grains(sweeps).points == 144


def test_no_sweep_gives_one() -> None:
    assert (pool_grains([]).step, pool_grains([]).evidence, pool_grains([]).points) == (1, 0.0, 0)


@pytest.mark.parametrize(
    ("widths", "latencies", "text"),
    [
        ([8, 16, 24], [1, 2, 3], "at least 4 different widths, got 3"),
        ([8, 8, 8, 8], [1, 1, 1, 1], "got 1"),
        ([8, 16, 24, 32], [1, 2, 3], "one latency for each width"),
        ([8, 16, 24, 32], [1, 2, float("nan"), 4], "positive, finite"),
        ([8, 16, 24, 32], [1, 2, 0, 4], "positive, finite"),
    ],
)
def test_a_sweep_that_is_none_is_refused(widths: list[int], latencies: list[float], text: str) -> None:
    with pytest.raises(UserError, match=text):
        learn_grain(widths, latencies)

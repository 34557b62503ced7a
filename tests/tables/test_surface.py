"""Interpolation is exact where measured, honest between, conservative beyond."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwloop.tables import KINDS, Surface


def law(inputs: np.ndarray, outputs: np.ndarray, grain: int) -> np.ndarray:
    """A dispatch, a part for each of the widths, and one for their product, all in blocks."""
    a, b = np.ceil(inputs / grain), np.ceil(outputs / grain)
    return 0.01 + 0.002 * a + 0.003 * b + 0.004 * a * b


def surface(pairs: list[tuple[int, int]], grain: int, noise: float = 0.0, tied: bool = False) -> Surface:
    inputs, outputs = np.array(pairs, dtype=np.int64).T
    latency = law(inputs, outputs, grain)
    latency = latency * np.exp(noise * np.random.default_rng(0).standard_normal(len(latency)))
    return Surface(inputs, outputs, np.stack([latency, latency * 0.99, latency * 1.01], axis=1), grain=grain, tied=tied)


def ask(made: Surface, *pairs: tuple[int, int]) -> tuple[np.ndarray, list[str], np.ndarray, np.ndarray]:
    inputs, outputs = np.array(pairs, dtype=np.int64).T
    values = made.at(inputs, outputs)
    return values.latency_ms, [KINDS[kind] for kind in values.kind], values.low_ms, values.high_ms


GRID = [(a, b) for a in (8, 32, 64) for b in (8, 24, 64)]


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 64), st.integers(8, 64))
def test_a_full_grid_reproduces_a_bilinear_staircase(a: int, b: int) -> None:
    (latency,), (kind,), _, _ = ask(surface(GRID, 8), (a, b))
    assert latency == pytest.approx(float(law(np.array([a]), np.array([b]), 8)[0]), rel=1e-9)
    assert kind == ("exact" if (a, b) in GRID else "interpolated")


def test_all_widths_of_one_block_cost_the_same() -> None:
    latency, kinds, _, _ = ask(surface(GRID, 8), *[(32, b) for b in range(17, 25)])
    assert len(set(latency)) == 1
    assert kinds == ["interpolated"] * 7 + ["exact"]


def test_with_a_grain_of_one_there_are_no_steps() -> None:
    latency, _, _, _ = ask(surface(GRID, 1), *[(32, b) for b in range(8, 65)])
    assert (np.diff(latency) > 0).all()


def test_scattered_points_are_regressed_and_measured_ones_stay_exact() -> None:
    rng = np.random.default_rng(4)
    pairs = sorted({(int(a), int(b)) for a, b in rng.integers(8, 65, (14, 2))} | {(8, 8), (64, 64), (8, 64), (64, 8)})
    made = surface(pairs, 8)
    wanted = [(int(a), int(b)) for a, b in rng.integers(8, 65, (50, 2))]
    latency, kinds, low, high = ask(made, *wanted)
    truth = law(*np.array(wanted).T, 8)
    assert np.abs(latency / truth - 1).max() < 0.02
    assert set(kinds) == {"interpolated"} | ({"exact"} if set(wanted) & set(pairs) else set())
    assert ((low <= latency) & (latency <= high)).all()
    exact, kinds, _, _ = ask(made, *pairs)
    assert kinds == ["exact"] * len(pairs)
    assert (exact == law(*np.array(pairs).T, 8)).all()


def test_a_few_extra_points_do_not_spoil_a_grid() -> None:
    extra = [*GRID, (16, 40), (48, 16)]
    (latency,), (kind,), _, _ = ask(surface(extra, 8), (24, 48))
    assert latency == pytest.approx(float(law(np.array([24]), np.array([48]), 8)[0]), rel=1e-9)
    assert kind == "interpolated"


def test_a_grid_with_a_hole_still_answers_inside_the_hole() -> None:
    holed = [pair for pair in GRID if pair != (32, 24)]
    (latency,), (kind,), _, _ = ask(surface(holed, 8), (32, 24))
    assert latency == pytest.approx(float(law(np.array([32]), np.array([24]), 8)[0]), rel=0.05)
    assert kind == "interpolated"


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.booleans())
def test_beyond_the_measured_widths_nothing_is_underestimated(a: int, b: int, scattered: bool) -> None:
    pairs = [*GRID, (16, 40), (48, 56), (40, 16), (56, 48), (24, 8), (16, 64)] if scattered else GRID
    (latency,), (kind,), (low,), (high,) = ask(surface(pairs, 8), (a, b))
    truth = float(law(np.array([a]), np.array([b]), 8)[0])
    blocks = -(-a // 8), -(-b // 8)
    inside = all(1 <= block <= 8 for block in blocks)
    assert (kind == "extrapolated") == (not inside)
    assert latency >= truth * (0.95 if scattered else 1 - 1e-9)
    assert low <= truth * 1.05
    assert low <= latency <= high


def test_one_point_answers_everything_conservatively() -> None:
    made = surface([(16, 16)], 8)
    latency, kinds, low, _ = ask(made, (16, 16), (8, 16), (32, 16), (15, 9))
    assert kinds == ["exact", "extrapolated", "extrapolated", "interpolated"]
    assert latency == pytest.approx(np.array([1, 1, 2, 1]) * latency[0])
    assert low[1] < latency[1]


def test_widths_that_go_hand_in_hand_have_one_axis() -> None:
    made = surface([(8, 8), (64, 64)], 8, tied=True)
    latency, kinds, _, _ = ask(made, (8, 8), (36, 36), (64, 64))
    ends = law(np.array([8, 64]), np.array([8, 64]), 8)
    assert latency[1] == pytest.approx(np.interp(5, [1, 8], ends))
    assert kinds == ["exact", "interpolated", "exact"]


def test_the_interval_of_regressed_values_grows_with_the_misfit() -> None:
    rng = np.random.default_rng(1)
    pairs = sorted({(int(a), int(b)) for a, b in rng.integers(1, 9, (20, 2)) * 8})
    probe = (20, 44)
    widths = []
    for noise in (0.0, 0.2):
        (latency,), _, (low,), (high,) = ask(surface(pairs, 8, noise), probe)
        widths.append((high - low) / latency)
    assert widths[1] > 3 * widths[0]

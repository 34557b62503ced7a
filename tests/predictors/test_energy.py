"""Energy is power for a time, and what arithmetic and traffic add to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwloop.layers import ScalableNetwork
from hwloop.predictors import NetworkPredictor
from hwloop.predictors.energy import fit_energy
from hwloop.tables import LatencyTable


def networks(count: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latency in ms, MACs and moved bytes; some networks compute, others move."""
    rng = np.random.default_rng(seed)
    latency = rng.uniform(1, 10, count)
    return latency, latency * 1e7 * rng.uniform(0.2, 2, count), latency * 1e6 * rng.uniform(0.2, 2, count)


def energy_of(latency: np.ndarray, macs: np.ndarray, moved: np.ndarray) -> np.ndarray:
    return 4.0 * latency + 1e-7 * macs + 5e-7 * moved


def test_what_arithmetic_and_traffic_add_is_told_apart() -> None:
    noise = np.exp(0.01 * np.random.default_rng(1).standard_normal(30))
    model = fit_energy(*networks(), energy_of(*networks()) * noise)
    unseen = networks(50, seed=9)
    assert model.apply(*unseen) == pytest.approx(energy_of(*unseen), rel=0.03)
    assert 0 <= model.margin < 0.04


def test_a_board_that_draws_the_same_always_has_a_power_only() -> None:
    latency, macs, moved = networks()
    model = fit_energy(latency, macs, moved, 5.0 * latency)
    assert model.power_w == pytest.approx(5.0, rel=0.01)


def test_a_disturbed_network_hardly_moves_the_others() -> None:
    energy = energy_of(*networks())
    energy[3] *= 3
    assert fit_energy(*networks(), energy).apply(*networks(20, 5)) == pytest.approx(
        energy_of(*networks(20, 5)), rel=0.05
    )


def test_few_networks_give_the_mean_power_and_none_give_nothing() -> None:
    latency, macs, moved = (values[:2] for values in networks())
    assert fit_energy(latency, macs, moved, 3.0 * latency).power_w == pytest.approx(3.0)
    assert fit_energy(*(values[:0] for values in networks()), np.zeros(0)).networks == 0


def test_a_predictor_keeps_its_energy_in_its_file(
    bench: Any, small: ScalableNetwork, small_table: LatencyTable, tmp_path: Path
) -> None:
    raw = NetworkPredictor(small, small_table)
    widths = bench.candidates(small, 12)
    latencies = bench.true_network_ms(small, widths)
    assert raw.fit(widths, latencies).predict(widths).energy_mj is None
    known = [None, *(4.0 * latencies[1:]).tolist()]
    fitted = raw.fit(widths, latencies, energy_mj=known)
    energy = fitted.predict(widths).energy_mj
    assert energy == pytest.approx(4.0 * fitted.predict(widths).latency_ms, rel=0.02)
    fitted.save(tmp_path / "predictor.json")
    again = NetworkPredictor.load(tmp_path / "predictor.json", small).predict(widths)
    assert (again.energy_mj == energy).all()
    assert (again.energy_high_mj >= energy).all()

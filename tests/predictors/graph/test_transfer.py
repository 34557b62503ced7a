"""Few probes suffice where a known device is alike, and nothing is transferred from one that is not."""

from __future__ import annotations

import numpy as np
import pytest

from hwloop.errors import UserError
from hwloop.layers import Network
from hwloop.predictors.graph import TransferredPredictor, WholeNetworkPredictor, choose_probes
from hwloop.predictors.report import Errors
from tests.predictors.graph.conftest import latencies, random_chains


@pytest.fixture(scope="module")
def known() -> WholeNetworkPredictor:
    networks = random_chains(80, 11)
    return WholeNetworkPredictor.fit(networks, latencies(networks, noise=0.01))


def _scrambled(networks: list[Network]) -> np.ndarray:
    """A device on which the number of layers counts and nothing else."""
    return np.array([len(network.nodes) ** 3 for network in networks], dtype=np.float64)


def test_ten_probes_suffice_on_a_device_that_is_alike(known: WholeNetworkPredictor) -> None:
    pool, unseen = random_chains(60, 12), random_chains(100, 13)
    probes = [pool[index] for index in choose_probes({"known": known}, pool, 10)]
    fitted = TransferredPredictor.fit({"known": known}, probes, 3 * latencies(probes, noise=0.01) ** 0.9)
    assert fitted.evidence.transferred
    assert fitted.evidence.error < fitted.evidence.scratch_error
    assert "transferred (known" in str(fitted.evidence)
    assert Errors.of(fitted.predict(unseen).value, 3 * latencies(unseen) ** 0.9).median < 0.05


def test_of_two_known_devices_the_one_that_is_alike_weighs_more(known: WholeNetworkPredictor) -> None:
    networks = random_chains(80, 14)
    other = WholeNetworkPredictor.fit(networks, np.exp(0.3 * np.random.default_rng(0).standard_normal(80)))
    probes = random_chains(12, 15)
    fitted = TransferredPredictor.fit({"noise": other, "alike": known}, probes, 2 * latencies(probes, noise=0.01))
    assert fitted.evidence.weights["alike"] > fitted.evidence.weights["noise"]


def test_nothing_is_transferred_from_a_device_that_misleads() -> None:
    networks, probes, unseen = random_chains(80, 16), random_chains(30, 17), random_chains(60, 18)
    misleading = WholeNetworkPredictor.fit(networks, np.exp(0.3 * np.random.default_rng(1).standard_normal(80)))
    fitted = TransferredPredictor.fit({"misleading": misleading}, probes, _scrambled(probes))
    scratch = WholeNetworkPredictor.fit(probes, _scrambled(probes))
    errors = [Errors.of(one.predict(unseen).value, _scrambled(unseen)).median for one in (fitted, scratch)]
    assert errors[0] <= 1.5 * errors[1] + 0.01
    if not fitted.evidence.transferred:
        assert (fitted.predict(unseen).value == scratch.predict(unseen).value).all()
        assert "from scratch" in str(fitted.evidence)


def test_probes_are_different_and_spread_over_the_latencies(known: WholeNetworkPredictor) -> None:
    pool = random_chains(60, 19)
    chosen = choose_probes({"known": known}, pool, 12)
    assert len(set(chosen)) == 12
    assert choose_probes({"known": known}, pool, 5) == chosen[:5]
    logarithms = np.log(latencies(pool))
    assert logarithms[chosen].std() > logarithms.std()


def test_bad_requests_are_refused(known: WholeNetworkPredictor) -> None:
    pool = random_chains(5, 20)
    with pytest.raises(UserError, match="cannot choose 6 probes from 5"):
        choose_probes({"known": known}, pool, 6)
    with pytest.raises(UserError, match="no device is known"):
        TransferredPredictor.fit({}, pool, latencies(pool))
    with pytest.raises(UserError, match="at least 4"):
        TransferredPredictor.fit({"known": known}, pool[:3], latencies(pool[:3]))

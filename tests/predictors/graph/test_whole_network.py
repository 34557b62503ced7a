"""From whole measured networks alone: accurate, honest about it, the same every time, and in a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hwloop.errors import DataError, UserError
from hwloop.layers import Network
from hwloop.predictors.graph import WholeNetworkPredictor
from hwloop.predictors.report import Errors
from tests.benchmarks import nasbench201
from tests.predictors.graph.conftest import chain, diamond, latencies, random_chains

Hundred = tuple[list[Network], NDArray[np.float64]]


@pytest.fixture(scope="module")
def predictor(hundred: Hundred) -> WholeNetworkPredictor:
    return WholeNetworkPredictor.fit(*hundred)


def test_unseen_widths_and_depths_are_predicted_within_the_noise(predictor: WholeNetworkPredictor) -> None:
    unseen = random_chains(200, 2)
    errors = Errors.of(predictor.predict(unseen).value, latencies(unseen))
    assert errors.median < 0.03
    assert errors.within_10 > 0.9


def test_more_channels_take_longer(predictor: WholeNetworkPredictor) -> None:
    values = predictor.predict([chain([width] * 4) for width in (8, 16, 24, 32, 40, 48, 56, 64)]).value
    assert (np.diff(values) > 0).all()


def test_intervals_hold_the_prediction_and_widen_far_from_home(predictor: WholeNetworkPredictor) -> None:
    found = predictor.predict([chain([32] * 4), chain([32] * 4, kernels=[7] * 4), diamond(6, 6)])
    assert (found.low < found.value).all()
    assert (found.value < found.high).all()
    widths = found.high / found.low
    assert (widths[1:] > 1.5 * widths[0]).all()


def test_intervals_cover_what_they_promise_on_average() -> None:
    covered = []
    for seed in range(6):
        networks, unseen = random_chains(60, 100 + seed), random_chains(150, 200 + seed)
        fitted = WholeNetworkPredictor.fit(networks, latencies(networks, noise=0.05, seed=seed))
        truth, found = latencies(unseen, noise=0.05, seed=50 + seed), fitted.predict(unseen)
        covered.append(float(((found.low <= truth) & (truth <= found.high)).mean()))
    assert 0.86 <= float(np.mean(covered)) <= 0.96


@pytest.mark.parametrize("live_only", [True, False])
def test_the_measurements_tell_whether_dead_branches_are_executed(live_only: bool) -> None:
    networks = random_chains(60, 3, dead=True)
    fitted = WholeNetworkPredictor.fit(networks, latencies(networks, noise=0.02, live_only=live_only))
    assert fitted.flows == (("live",) if live_only else ("everything",))


def test_disturbed_measurements_are_outvoted() -> None:
    networks, unseen = random_chains(60, 4), random_chains(100, 5)
    measured = latencies(networks, noise=0.02)
    measured[::9] *= 1.6
    assert (
        Errors.of(WholeNetworkPredictor.fit(networks, measured).predict(unseen).value, latencies(unseen)).median < 0.05
    )


def test_names_and_order_change_nothing() -> None:
    networks = [diamond(left, right) for left in range(1, 5) for right in range(1, 5)]
    fitted = WholeNetworkPredictor.fit(networks, latencies(networks))
    plain, other = fitted.predict([diamond(5, 3)]), fitted.predict([diamond(5, 3, swapped=True, prefix="x.")])
    assert plain.value[0] == other.value[0]
    assert plain.high[0] == other.high[0]


def test_the_unit_does_not_matter(hundred: Hundred, predictor: WholeNetworkPredictor) -> None:
    networks, measured = hundred
    unseen = random_chains(5, 6)
    in_bytes = WholeNetworkPredictor.fit(networks, 1e6 * measured).predict(unseen)
    assert in_bytes.high == pytest.approx(1e6 * predictor.predict(unseen).high, rel=1e-3)


def test_it_is_the_same_every_time_and_after_a_file(
    hundred: Hundred, predictor: WholeNetworkPredictor, tmp_path: Path
) -> None:
    unseen = random_chains(20, 7)
    found = predictor.predict(unseen)
    predictor.save(tmp_path / "one.json")
    again = WholeNetworkPredictor.fit(*hundred)
    loaded = WholeNetworkPredictor.load(tmp_path / "one.json")
    for other in (again, loaded):
        assert (other.predict(unseen).value == found.value).all()
        assert (other.predict(unseen).low == found.low).all()
        assert other.coverage == predictor.coverage
    again.save(tmp_path / "two.json")
    assert (tmp_path / "two.json").read_bytes() == (tmp_path / "one.json").read_bytes()


def test_a_file_that_is_no_predictor_is_refused(predictor: WholeNetworkPredictor, tmp_path: Path) -> None:
    path = tmp_path / "predictor.json"
    with pytest.raises(DataError, match="there is no predictor at"):
        WholeNetworkPredictor.load(path)
    content = predictor.to_dict()
    cut = json.loads(json.dumps(content))
    cut["regression"]["targets"].pop()
    broken = {
        json.dumps(content)[:-100]: "is damaged",
        json.dumps(content | {"format": 99}): "has format 99",
        json.dumps(content | {"kind": "layers"}): "no predictor of whole networks but of 'layers'",
        json.dumps(cut): "another number of networks",
        json.dumps({key: value for key, value in content.items() if key != "encoding"}): "is damaged",
    }
    for text, message in broken.items():
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            WholeNetworkPredictor.load(path)


@pytest.mark.parametrize(
    ("count", "values", "message"),
    [
        (5, [1.0, 2.0, 3.0, 4.0, 0.0], "positive, finite"),
        (5, [1.0, 2.0, 3.0, 4.0, float("nan")], "positive, finite"),
        (5, [1.0, 2.0], "positive, finite"),
        (3, [1.0, 2.0, 3.0], "at least 4"),
    ],
)
def test_what_teaches_nothing_is_refused(count: int, values: list[float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        WholeNetworkPredictor.fit(random_chains(count, 8), values)


def test_equal_networks_are_refused() -> None:
    with pytest.raises(UserError, match="do not differ"):
        WholeNetworkPredictor.fit([chain([8, 8])] * 5, [1.0, 1.1, 1.2, 1.0, 1.1])


@pytest.mark.data
@pytest.mark.parametrize(("device", "share"), [("Jetson Nano", 0.95), ("Xeon 6226", 0.94), ("Raspberry Pi 4", 0.78)])
def test_boards_that_others_measured(shared_data: Path, device: str, share: float) -> None:
    drawn = np.random.default_rng(0).permutation(1999)[:400]
    measured = nasbench201.read(shared_data, list(drawn))
    latency = measured.latencies_ms[device]
    fitted = WholeNetworkPredictor.fit(measured.networks[:100], latency[:100])
    found, truth = fitted.predict(measured.networks[100:]), latency[100:]
    assert Errors.of(found.value, truth).within_10 >= share
    assert 0.75 <= ((found.low <= truth) & (truth <= found.high)).mean() <= 0.98

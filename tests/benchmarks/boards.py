"""Whole networks on boards measured by others: how far off a predictor is that saw 100 or 900 of them.

NAS-Bench-201 on a Jetson Nano, a Xeon and a Raspberry Pi 4 (`$HWLOOP_SHARED_DATA`, else ../shared/data). Beside the
predictor, on the same splits: a line in the MACs, a ridge on the cells' edges, and a random forest in nn-Meter's
manner on counts and sizes. The noise is what two networks that are the same differ by.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, Ridge

from hwloop.predictors.graph import Described, WholeNetworkPredictor, describe_networks
from hwloop.predictors.report import Errors
from tests.benchmarks import nasbench201
from tests.benchmarks.nasbench201 import EDGES, Measured, shared_data

Floats = NDArray[np.float64]

TRAINING = (100, 900)
NOMINAL = 0.9


@dataclass(frozen=True)
class Split:
    """Which networks are learned from and which are predicted."""

    name: str
    train: NDArray[np.int64]
    test: NDArray[np.int64]


def main(options: Sequence[str] = ()) -> None:
    """Print one table; --quick leaves the families out."""
    parser = argparse.ArgumentParser(prog="boards")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="random splits only")
    parser.add_argument("--device", choices=tuple(nasbench201.DEVICES), help="this one only")
    arguments = parser.parse_args(options)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    began = time.perf_counter()
    measured = nasbench201.read(shared_data())
    described = describe_networks(measured.networks)
    print(f"{len(measured.networks)} networks built and described in {time.perf_counter() - began:.1f} s")
    for device, latencies in measured.latencies_ms.items():
        if arguments.device not in (None, device):
            continue
        print(f"\n{device}: {_noise(described, latencies)}")
        print(f"{'split':<24}{'n':>5}  {'predictor':<14}  within 10 %   within 5 %  median  Spearman  covered  width")
        for name, splits in _splits(measured, seeds, quick=arguments.quick):
            _print_rows(name, splits, measured, described, latencies)


def _splits(measured: Measured, seeds: range, *, quick: bool) -> Iterator[tuple[str, list[Split]]]:
    everyone = np.arange(len(measured.networks))
    families = {"random": np.zeros(len(everyone), dtype=np.bool_)}
    if not quick:
        families |= nasbench201.families(measured.cells)
    for name, family in families.items():
        for count in TRAINING:
            splits = []
            for seed in seeds:
                shuffled = np.random.default_rng(seed).permutation(everyone[~family])
                test = everyone[family] if family.any() else shuffled[count:]
                splits.append(Split(name, shuffled[:count], test))
            yield name, splits


def _print_rows(
    name: str, splits: Sequence[Split], measured: Measured, described: Described, latencies: Floats
) -> None:
    rows: defaultdict[str, list[tuple[float, ...]]] = defaultdict(list)
    seconds = []
    for seed, split in enumerate(splits):
        truth = latencies[split.test]
        began = time.perf_counter()
        predictor = WholeNetworkPredictor.fit_described(
            described.take(split.train), latencies[split.train], coverage=NOMINAL, seed=seed
        )
        seconds.append(time.perf_counter() - began)
        found = predictor.predict_described(described.take(split.test))
        inside = float(((found.low <= truth) & (truth <= found.high)).mean())
        width = float(np.mean((found.high - found.low) / found.value))
        rows["hwloop"].append((*_scores(found.value, truth), inside, width))
        for baseline, predict in BASELINES.items():
            guess = predict(measured, described, latencies, split)
            rows[baseline].append((*_scores(guess, truth), float("nan"), float("nan")))
    for method, scores in rows.items():
        mean, spread = np.mean(scores, axis=0), np.std(scores, axis=0)
        text = f"{mean[0]:6.1%} ±{spread[0]:5.1%}  {mean[1]:5.1%} ±{spread[1]:5.1%}  {mean[2]:6.2%}  {mean[3]:8.3f}"
        if not np.isnan(mean[4]):
            text += f"  {mean[4]:6.1%}  {mean[5]:5.1%}  (fit {np.mean(seconds):.1f} s)"
        share = f"{name} ({len(splits[0].test)})"
        print(f"{share:<24}{len(splits[0].train):>5}  {method:<14}  {text}", flush=True)


def _scores(predicted: Floats, truth: Floats) -> tuple[float, float, float, float]:
    errors = Errors.of(predicted, truth)
    return errors.within_10, errors.within_5, errors.median, float(spearmanr(predicted, truth).statistic)


def _noise(described: Described, latencies: Floats) -> str:
    """Two cells may be one graph; then they were measured twice."""
    same: defaultdict[str, list[float]] = defaultdict(list)
    for one, latency in zip(described.by_flow["everything"], latencies, strict=True):
        same[json.dumps([one.counts, one.sizes], sort_keys=True)].append(latency)
    ratios = [abs(one[0] / one[1] - 1) for one in same.values() if len(one) == 2]
    return f"two measurements of the same graph differ by {np.median(ratios):.1%} (median of {len(ratios)} pairs)"


def _line(measured: Measured, described: Described, latencies: Floats, split: Split) -> Floats:
    macs = np.array([[network.macs] for network in measured.networks], dtype=np.float64)
    return _predicted(LinearRegression(), macs, latencies, split)


def _ridge(measured: Measured, described: Described, latencies: Floats, split: Split) -> Floats:
    operations = sorted({operation for cell in measured.cells for operation in cell})
    edges = np.array([[cell[k] == o for k in range(len(EDGES)) for o in operations] for cell in measured.cells])
    return _predicted(Ridge(1.0), edges.astype(np.float64), latencies, split)


def _forest(measured: Measured, described: Described, latencies: Floats, split: Split) -> Floats:
    everything = described.by_flow["everything"]
    labels = sorted({label for one in everything for label in one.counts["layer"]})
    counts = [[*(one.counts["layer"].get(label, 0) for label in labels), *one.sizes] for one in everything]
    model = RandomForestRegressor(100, random_state=0)
    return _predicted(model, np.array(counts, dtype=np.float64), latencies, split)


def _predicted(
    model: LinearRegression | Ridge | RandomForestRegressor, columns: Floats, latencies: Floats, split: Split
) -> Floats:
    weights = (latencies[split.train] / latencies[split.train].mean()) ** -2.0  # relative errors count
    model.fit(columns[split.train], latencies[split.train], sample_weight=weights)
    return np.asarray(model.predict(columns[split.test]), dtype=np.float64)


BASELINES: dict[str, Callable[[Measured, Described, Floats, Split], Floats]] = {
    "ridge on edges": _ridge,
    "forest": _forest,
    "line in MACs": _line,
}

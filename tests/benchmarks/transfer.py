"""A new device from a few probes and the others: error against the number of probes, beside from-scratch.

Each of the three devices of `boards` is new in turn; the other two are known by 900 of their networks. Probes are
chosen from those 900, and the networks that nobody measured are predicted.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

from hwloop.predictors.graph import TransferredPredictor, WholeNetworkPredictor, describe_networks
from hwloop.predictors.graph.transfer import choose_described
from hwloop.predictors.report import Errors
from tests.benchmarks import nasbench201
from tests.benchmarks.nasbench201 import shared_data

PROBES = (5, 10, 20, 50, 100)
KNOWN = 900


def main(options: Sequence[str] = ()) -> None:
    """Print the curve for each device, and the mean over the devices."""
    parser = argparse.ArgumentParser(prog="transfer")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    given = parser.parse_args(options)
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    measured = nasbench201.read(shared_data())
    described = describe_networks(measured.networks)
    rows: defaultdict[tuple[str, int, str], list[tuple[float, ...]]] = defaultdict(list)
    used: defaultdict[tuple[str, int], int] = defaultdict(int)
    for seed in seeds:
        shuffled = np.random.default_rng(seed).permutation(len(measured.networks))
        pool, unseen = described.take(shuffled[:KNOWN]), described.take(shuffled[KNOWN:])
        predictors = {
            device: WholeNetworkPredictor.fit_described(pool, latencies[shuffled[:KNOWN]], seed=seed)
            for device, latencies in measured.latencies_ms.items()
        }
        for device, latencies in measured.latencies_ms.items():
            known = {name: predictor for name, predictor in predictors.items() if name != device}
            truth = latencies[shuffled[KNOWN:]]
            chosen = choose_described(known, pool, max(PROBES))
            for count in PROBES:
                drawn = chosen[:count]
                probes, values = pool.take(drawn), latencies[shuffled[drawn]]
                transferred = TransferredPredictor.fit_described(known, probes, values, seed=seed)
                used[device, count] += transferred.evidence.transferred
                scratch = WholeNetworkPredictor.fit_described(probes, values, seed=seed)
                for method, predictor in (("transfer", transferred), ("scratch", scratch)):
                    found = predictor.predict_described(unseen)
                    errors = Errors.of(found.value, truth)
                    inside = float(((found.low <= truth) & (truth <= found.high)).mean())
                    rank = float(spearmanr(found.value, truth).statistic)
                    rows[device, count, method].append((rank, errors.within_10, errors.median, inside))
    print(f"{'new device':<16}{'probes':>7}  {'':<9}  Spearman        within 10 %     median  covered  transferred")
    for device in measured.latencies_ms:
        for count in PROBES:
            for method in ("transfer", "scratch"):
                times = f"{used[device, count]} of {len(seeds)}" if method == "transfer" else ""
                print(f"{device:<16}{count:>7}  {method:<9}  {_text(rows[device, count, method])}  {times}")
    for count in PROBES:
        for method in ("transfer", "scratch"):
            together = [row for device in measured.latencies_ms for row in rows[device, count, method]]
            print(f"{'mean of three':<16}{count:>7}  {method:<9}  {_text(together)}")


def _text(scores: Sequence[tuple[float, ...]]) -> str:
    mean, spread = np.mean(scores, axis=0), np.std(scores, axis=0)
    return f"{mean[0]:.3f} ±{spread[0]:.3f}  {mean[1]:6.1%} ±{spread[1]:5.1%}  {mean[2]:6.2%}  {mean[3]:6.1%}"

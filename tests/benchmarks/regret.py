"""What a search loses that trusts the predictor, against one that measures everything: replayed from `spaces`' folder.

python -m tests.benchmarks regret --folder DIR [the options of spaces]

The held-out networks of a space are the candidates; quality is the number of multiply-accumulates, which stands for
accuracy. A search by prediction takes, for each quality that is asked for, the candidate that it predicts to be the
fastest of those that have it. Its regret is how much slower that one really is than the really fastest.
"""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from tests.benchmarks.spaces import Measured, _parse, arrays, latencies, measure_space

FloatArray = NDArray[np.float64]


def main(arguments: Sequence[str] = ()) -> None:
    """Print the regret of each space and runtime."""
    given = _parse(arguments)
    console = Console(width=150)
    for name in given.spaces.split(","):
        for runtime in given.runtimes.split(","):
            measured = measure_space(name, runtime, given, console)
            if measured is not None:
                console.print(_line(measured), markup=False)


def _line(measured: Measured) -> str:
    moves = measured.campaign.moves
    asked, truth = arrays(moves.space, measured.truth), latencies(measured.truth)
    predicted = measured.found.predictor.predict(*asked).latency_ms
    quality = moves.scalable.macs(*asked).astype(np.float64)
    lost = regrets(predicted, truth, quality)
    own, best = (_hypervolume(found, truth, quality) for found in (predicted, truth))
    return (
        f"{measured.name} in {measured.runtime}: {len(truth)} candidates; regret mean {lost.mean():.2%}, highest"
        f" {lost.max():.2%}; hypervolume of the predicted front, measured: {own / best:.2%} of the true front's"
    )


def regrets(predicted: FloatArray, truth: FloatArray, quality: FloatArray) -> FloatArray:
    """(n,) how much slower the predicted fastest is than the fastest, for each of the candidates' qualities."""
    found = []
    for asked in quality:
        able = np.flatnonzero(quality >= asked)
        found.append(truth[able[np.argmin(predicted[able])]] / truth[able].min() - 1)
    return np.array(found)


def _hypervolume(by: FloatArray, truth: FloatArray, quality: FloatArray) -> float:
    front = moocore.is_nondominated(np.stack([by, -quality], axis=1))
    reference = [truth.max() * 1.01, -quality.min() * 0.99]
    return float(moocore.hypervolume(np.stack([truth, -quality], axis=1)[front], ref=reference))

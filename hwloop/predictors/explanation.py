"""Why a candidate is predicted to cost what it is: its layers, the terms of the correction, and where doubt lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hwloop.predictors.layer_model import KINDS
from hwloop.predictors.network_predictor import NetworkPredictor


@dataclass(frozen=True)
class LayerShare:
    """One layer of a candidate.

    Attributes:
        name: of the node.
        key: of the layer at the candidate's widths.
        latency_ms: of the layer alone.
        spread_ms: standard deviation of that number.
        kind: ``exact``, ``interpolated``, ``extrapolated``, ``roofline`` or ``missing``.
    """

    name: str
    key: str
    latency_ms: float
    spread_ms: float
    kind: str


@dataclass(frozen=True)
class Explanation:
    """What makes up the prediction of one candidate.

    Attributes:
        latency_ms: predicted.
        low_ms: lower end of its interval.
        high_ms: upper end.
        peak_bytes: predicted; nan when no network's memory was measured.
        sum_of_layers_ms: before the correction.
        layers: in the order of execution; their latencies add up to the sum.
        terms_ms: what each term of the correction adds to the sum; with it they add up to the latency.
        layer_spread_ms: standard deviation of the sum because of the layers.
        correction_spread_ms: that of the whole network, by the correction: its own doubt and one measurement's noise.
        form: of the correction.
        energy_mj: predicted, of one run; None when no network's energy was measured.
    """

    latency_ms: float
    low_ms: float
    high_ms: float
    peak_bytes: float
    sum_of_layers_ms: float
    layers: tuple[LayerShare, ...]
    terms_ms: dict[str, float]
    layer_spread_ms: float
    correction_spread_ms: float
    form: str
    energy_mj: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data; a peak that is not known is null."""
        return asdict(self) | {"peak_bytes": None if np.isnan(self.peak_bytes) else self.peak_bytes}


def explain(predictor: NetworkPredictor, widths: Sequence[int], blocks: Sequence[bool] | None = None) -> Explanation:
    """Take the prediction of one candidate apart.

    Args:
        predictor: the predictor.
        widths: (G,) of the candidate.
        blocks: (B,) flags of the blocks that remain; all by default.
    """
    asked = np.asarray([widths], dtype=np.int64)
    flags = None if blocks is None else np.asarray([blocks], dtype=bool)
    prediction = predictor.predict(asked, flags)
    sums = predictor.sums(asked, flags)
    latency, spread, kinds = (row[0] for row in predictor.layer_values(asked, flags))
    scalable = predictor.scalable
    executed = np.broadcast_to(scalable.present(flags), (1, len(scalable.nodes)))[0]
    at = {node.name: node.layer for node in scalable.at(list(widths), None if flags is None else flags[0]).nodes}
    layers = tuple(
        LayerShare(
            node.name,
            at[node.name].key if node.name in at else node.layer.key,
            float(latency[index]),
            float(latency[index] * spread[index]),
            KINDS[int(kinds[index])],
        )
        for index, node in enumerate(scalable.nodes)
        if executed[index]
    )
    corrected = predictor.correction.apply(sums.terms)
    return Explanation(
        latency_ms=float(prediction.latency_ms[0]),
        low_ms=float(prediction.low_ms[0]),
        high_ms=float(prediction.high_ms[0]),
        peak_bytes=float(prediction.peak_bytes[0]),
        sum_of_layers_ms=float(prediction.sum_of_layers_ms[0]),
        layers=layers,
        terms_ms={name: float(added[0]) for name, added in predictor.correction.contributions_ms(sums.terms).items()},
        layer_spread_ms=float(sums.spread_ms[0]),
        correction_spread_ms=float(corrected.spread[0] * corrected.latency_ms[0]),
        form=predictor.correction.form,
        energy_mj=None if prediction.energy_mj is None else float(prediction.energy_mj[0]),
    )

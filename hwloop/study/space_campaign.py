"""A predictor for a pruning space from few measurements: adaptive sampling of its layers and networks on a device."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from hwloop.errors import DataError, ModelError
from hwloop.extraction import export_onnx
from hwloop.files import write_atomic
from hwloop.layers import Layer
from hwloop.measurement import (
    USABLE,
    Bench,
    CurvePoint,
    Identity,
    Limits,
    Measurement,
    Step,
    Subject,
    TimingProtocol,
    layer_design,
    sample_adaptively,
)
from hwloop.predictors import (
    NetworkPredictor,
    Pool,
    PredictorReport,
    choose_layers,
    choose_networks,
    evaluate,
    near_front,
)
from hwloop.pruning import Candidate, PruningSpace
from hwloop.runtimes import Artifact, Runtime
from hwloop.study.sampling import sample_candidates
from hwloop.study.space import Moves
from hwloop.tables import LatencyTable, measure_layers

#: Short trials: a campaign of hundreds has to fit ten minutes, and the predictor averages over many.
TIMING = TimingProtocol(warmup_s=0.05, min_s=0.1, max_s=0.5, target_relative_interval=0.02)

START_LEVELS = 3
START_SHARE = 0.6
DRAWN_SHARE = 0.8
ROUND_LAYERS = 40
ROUND_NETWORKS = 1
POOL = 400
POOL_NEAR = 60


@dataclass(frozen=True)
class MeasuredNetwork:
    """A pruned network that was measured.

    Attributes:
        text: the candidate.
        latency_ms: nan when it could not be measured.
        peak_bytes: 0 when unknown.
        status: of the measurement.
        drawn: at random, like the networks that will be predicted; else because the predictor was unsure.
        energy_mj: of one run; None when unknown.
        later: measured in the session that predictions are for, not in the campaign's.
    """

    text: str
    latency_ms: float
    peak_bytes: float
    status: str
    drawn: bool = True
    energy_mj: float | None = None
    later: bool = False


@dataclass(frozen=True)
class Spending:
    """How much may be measured for one space.

    Attributes:
        layers: at most so many.
        networks: at most so many, at least 4.
        seconds: of measuring.
        error: stop when nine of ten networks are expected within this relative error; 0 to spend everything.
    """

    layers: int = 400
    networks: int = 30
    seconds: float = 600.0
    error: float = 0.0


@dataclass(frozen=True)
class SpaceTable:
    """What a campaign found out about a space.

    Attributes:
        table: its layers.
        networks: whole networks, in the order in which they were chosen.
        predictor: fitted on both.
        curve: of the expected error against measurements.
    """

    table: LatencyTable
    networks: tuple[MeasuredNetwork, ...]
    predictor: NetworkPredictor
    curve: tuple[CurvePoint, ...]


@dataclass
class SpaceCampaign:
    """Measures layers and networks of one space on one device.

    Attributes:
        moves: the space.
        input_shape: (channels, height, width).
        runtime: for this device.
        bench: the device, the store and the plan.
        identity: what the device is.
        seed: of the networks that are drawn.
    """

    moves: Moves
    input_shape: tuple[int, int, int]
    runtime: Runtime
    bench: Bench
    identity: Identity
    seed: int = 0
    table: LatencyTable = field(default_factory=LatencyTable)
    networks: dict[str, MeasuredNetwork] = field(default_factory=dict)

    def artifact(self, candidate: Candidate) -> Artifact:
        """A network of the space, as the runtime loads it."""
        model = export_onnx(self.moves.surgery.apply(candidate), self.input_shape, fold=True)
        return self.runtime.onnx(model, self.moves.space.text(candidate))

    def subject(self, candidate: Candidate) -> Subject:
        """A network of the space, to be measured."""
        return Subject(self.moves.space.text(candidate), self.artifact(candidate))

    def measure_networks(
        self, candidates: Sequence[Candidate], description: str, processes: int | None = None, drawn: bool = True
    ) -> list[MeasuredNetwork]:
        """Measure whole networks; those that are in the store already cost nothing."""
        subjects = [self.subject(candidate) for candidate in candidates]
        measured = self.bench.measure(subjects, description, processes) if subjects else {}
        return [
            MeasuredNetwork(text, one.latency_ms, one.peak_bytes, one.status, drawn, one.energy_mj)
            for text, one in ((subject.key, measured[subject.key]) for subject in subjects)
        ]

    def run(self, spending: Spending) -> SpaceTable:
        """Sample the space until the error or the spending is reached, or go on where an earlier run stopped.

        Raises:
            ModelError: no layer or fewer than two networks could be measured.
            DeviceError: the device was lost for good; everything measured is in the store.
        """
        designed = self._first_layers(int(START_SHARE * spending.layers))
        drawn = sample_candidates(self.moves.space, max(4, round(DRAWN_SHARE * spending.networks)), self.seed)
        sampled = sample_candidates(self.moves.space, POOL, self.seed + 1)
        state = _State(spending, {layer.key: layer for layer in designed}, {}, set())
        state.candidates = {self.moves.space.text(candidate): candidate for candidate in drawn}
        state.drawn = set(state.candidates)
        curve = sample_adaptively(
            [*state.layers, *state.candidates],
            lambda names: self._measure(names, state),
            lambda: self._decide(state, sampled),
            Limits(spending.layers + spending.networks, spending.seconds, spending.error),
            self.bench.store,
        )
        networks = tuple(self.networks.values())
        return SpaceTable(self.table, networks, self.fitted(self.table, networks), tuple(curve))

    def measured_twice(self, candidates: Sequence[Candidate]) -> dict[str, Measurement]:
        """Networks in two processes each: how far apart they lie is the noise floor."""
        subjects = [self.subject(candidate) for candidate in candidates]
        return self.bench.measure(subjects, "noise floor", processes=2) if subjects else {}

    def fitted(self, table: LatencyTable, networks: Sequence[MeasuredNetwork]) -> NetworkPredictor:
        """A predictor of the space from a table and networks; raises as `fit_networks`."""
        return fit_networks(NetworkPredictor(self.moves.scalable, table), self.moves.space, networks)

    def _first_layers(self, most: int) -> list[Layer]:
        levels = [self.moves.space.levels(g) for g in range(len(self.moves.space.groups))]
        for per_axis in range(START_LEVELS, 1, -1):
            designed = layer_design(self.moves.scalable, levels, per_axis)
            if len(designed) <= most:
                return designed
        # Even two widths per axis are too many: an even share of them, the rest is the roofline's.
        return [designed[i] for i in np.linspace(0, len(designed) - 1, max(most, 1)).round().astype(int)]

    def _measure(self, names: Sequence[str], state: _State) -> None:
        layers = [state.layers[name] for name in names if name in state.layers]
        if layers:
            found = measure_layers(
                layers, self.runtime, self.bench, self.identity, f"{len(layers)} layers", self.bench.plan.processes
            )
            self.table = self.table.merge(found.with_grain(self.moves.space.grain))
        texts = [name for name in names if name in state.candidates]
        for is_drawn in (True, False):
            chosen = [text for text in texts if (text in state.drawn) == is_drawn]
            networks = [state.candidates[text] for text in chosen]
            found_networks = self.measure_networks(networks, f"{len(networks)} networks", drawn=is_drawn)
            self.networks |= {one.text: one for one in found_networks}

    def _decide(self, state: _State, sampled: Sequence[Candidate]) -> Step:
        pool = Pool(*self.moves.space.arrays(sampled))
        predictor = self.fitted(self.table, tuple(self.networks.values()))
        prediction = predictor.predict(pool.widths, pool.blocks)
        quality = self.moves.scalable.macs(pool.widths, pool.blocks).astype(np.float64)
        near = near_front(prediction.latency_ms, quality, POOL_NEAR)
        # Half of those that matter are near the front, half anywhere: a search comes from everywhere.
        others = np.setdiff1d(np.arange(len(pool.widths)), near)[:POOL_NEAR]
        asked = np.concatenate([near, others])
        looked_at = pool[asked]
        half = (prediction.high_ms - prediction.low_ms) / (2 * prediction.latency_ms)
        error = float(np.median(half[asked]))
        room = state.spending.layers - len(state.layers)
        layers = choose_layers(predictor, looked_at, min(ROUND_LAYERS, room), state.layers) if room > 0 else []
        added = {layer.key: layer for layer in layers}
        wanted = list(added)
        state.layers |= added
        spare = state.spending.networks - len(state.candidates)
        if spare > 0:
            # Without layers left to measure, nothing is left to wait for.
            count = min(spare, ROUND_NETWORKS if layers else spare)
            candidates = [sampled[at] for at in asked.tolist()]
            texts = [self.moves.space.text(candidate) for candidate in candidates]
            known = np.array([text in state.candidates for text in texts])
            for position in choose_networks(predictor, looked_at, count, known):
                state.candidates[texts[position]] = candidates[position]
                wanted.append(texts[position])
        return Step(error, wanted)


@dataclass
class _State:
    """What the loop has asked for so far."""

    spending: Spending
    layers: dict[str, Layer]
    candidates: dict[str, Candidate]
    drawn: set[str]


def fit_networks(
    predictor: NetworkPredictor, space: PruningSpace, networks: Sequence[MeasuredNetwork]
) -> NetworkPredictor:
    """Fit a predictor on measured networks of a space.

    Raises:
        ModelError: fewer than two networks have a latency.
        UserError: a text is no candidate of the space.
    """
    usable = [one for one in networks if one.status in USABLE]
    if len(usable) < 2:
        raise ModelError(f"only {len(usable)} of {len(networks)} networks could be measured; a predictor needs two")
    widths, remains = space.arrays([space.parse(one.text) for one in usable])
    return predictor.fit(
        widths,
        [one.latency_ms for one in usable],
        [one.peak_bytes for one in usable],
        energy_mj=[one.energy_mj for one in usable],
        blocks=remains,
        calibrating=[one.drawn for one in usable],
        later=[one.later for one in usable],
    )


def evaluate_networks(
    predictor: NetworkPredictor, space: PruningSpace, networks: Sequence[MeasuredNetwork], noise_floor: float
) -> PredictorReport:
    """Compare a predictor with measured networks of a space that it was not fitted on; raises as `evaluate`."""
    usable = [one for one in networks if one.status in USABLE]
    widths, remains = space.arrays([space.parse(one.text) for one in usable])
    peaks = [one.peak_bytes for one in usable]
    return evaluate(
        predictor,
        widths,
        [one.latency_ms for one in usable],
        peaks if all(peaks) else None,
        blocks=remains,
        noise_floor=noise_floor,
    )


def save_networks(path: Path, networks: Sequence[MeasuredNetwork], about: Mapping[str, object]) -> None:
    """Write measured networks as JSON, whole or not at all."""
    content = [
        asdict(one) | {"latency_ms": one.latency_ms if one.latency_ms == one.latency_ms else None} for one in networks
    ]
    write_atomic(path, json.dumps({"about": dict(about), "networks": content}, indent=1, allow_nan=False))


def load_networks(path: Path) -> tuple[tuple[MeasuredNetwork, ...], dict[str, object]]:
    """Read what `save_networks` wrote.

    Raises:
        DataError: no such file, or not one of measured networks.
    """
    try:
        content = json.loads(path.read_text())
        found = tuple(MeasuredNetwork(**one) for one in content["networks"])
        about = dict(content["about"])
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} holds no measured networks: {error}") from error
    return tuple(
        replace(one, latency_ms=float("nan") if one.latency_ms is None else float(one.latency_ms)) for one in found
    ), about

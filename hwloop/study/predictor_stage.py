"""Third stage: whole networks are measured, the predictor is fitted on some and judged on the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hwloop.errors import ModelError
from hwloop.extraction import export_onnx
from hwloop.measurement import Bench, Measurement, Subject, noise_floor
from hwloop.predictors import NetworkPredictor, evaluate
from hwloop.progress import Progress
from hwloop.pruning import Candidate, PruningSpace
from hwloop.runtimes import Artifact, Runtime
from hwloop.search import Measured
from hwloop.study.base import Base
from hwloop.study.config import StudyConfig
from hwloop.study.device_loop import measured_as
from hwloop.study.directory import StudyDirectory
from hwloop.study.result import Holdout
from hwloop.study.sampling import sample_candidates
from hwloop.study.space import Moves
from hwloop.tables import LatencyTable

#: So many held-out networks are measured in a second process: their differences are the noise floor.
NOISE_NETWORKS = 10

#: Two parameters and an interval cannot be told from fewer networks, and some must be held out.
FEWEST_NETWORKS = 6


@dataclass(frozen=True)
class Judged:
    """A fitted predictor with its error on networks it never saw.

    Attributes:
        predictor: fitted on the calibration networks.
        holdout: the held-out networks.
        report: the summary of their errors, JSON-able.
        calibration: the networks that it was fitted on.
    """

    predictor: NetworkPredictor
    holdout: tuple[Holdout, ...]
    report: Mapping[str, Any]
    calibration: tuple[Measured, ...]

    def with_measured(self, measured: Sequence[Measured], space: PruningSpace) -> NetworkPredictor:
        """The predictor fitted again with networks that were measured during the search.

        They tell the device's pace of now, teach the correction and the memory model and, as soon as there are enough,
        say how wide the interval is: what is predicted next are networks like them, in the same session.
        """
        every = [*self.calibration, *measured]
        widths, remains = space.arrays([each.candidate for each in every])
        return self.predictor.fit(
            widths,
            [each.latency_ms for each in every],
            [float(each.peak_bytes) for each in every],
            energy_mj=[each.energy_mj for each in every],
            blocks=remains,
            later=[False] * len(self.calibration) + [True] * len(measured),
        )


def artifact_of(runtime: Runtime, base: Base, moves: Moves, candidate: Candidate) -> Artifact:
    """A candidate with the base's weights, as the runtime loads it."""
    model = export_onnx(moves.surgery.apply(candidate), base.input_shape, fold=True)
    return runtime.onnx(model, moves.space.text(candidate))


def fit_predictor(
    config: StudyConfig,
    base: Base,
    moves: Moves,
    table: LatencyTable,
    runtime: Runtime,
    bench: Bench,
    study: StudyDirectory,
    progress: Progress,
) -> Judged:
    """Measure calibration and held-out networks in one campaign, fit, and report the error.

    The networks are measured in one process each, some of the held-out ones in two. The two kinds are drawn from the
    same distribution of candidates and interleaved; the base and the smallest network are always among those that
    calibrate.
    """
    if study.has("predictor.json") and study.has("holdout.json"):
        # Kept, not fitted again: the search's journal relies on this predictor to the last bit.
        progress.say("predictor: taken from the earlier run")
        known = study.read_json("holdout.json")
        predictor = NetworkPredictor.load(study.path("predictor.json"), moves.scalable)
        calibration = tuple(
            Measured(moves.space.parse(one["text"]), one["latency_ms"], one["peak_bytes"], one["energy_mj"])
            for one in known.get("calibration", ())
        )
        return Judged(predictor, tuple(Holdout(**one) for one in known["networks"]), known["report"], calibration)
    calibrating = config.table.calibration_networks
    candidates = sample_candidates(moves.space, calibrating + config.table.holdout_networks, config.study.seed)
    texts = [moves.space.text(candidate) for candidate in candidates]
    with progress.step("exporting networks", total=len(candidates)) as step:
        subjects = []
        for text, candidate in zip(texts, candidates, strict=True):
            subjects.append(Subject(text, artifact_of(runtime, base, moves, candidate)))
            step.advance(1, text)
    measured = bench.measure(subjects, "whole networks", processes=1)
    again = subjects[calibrating : calibrating + NOISE_NETWORKS]
    measured |= bench.measure(again, "noise floor", processes=2)
    pairs = [(c, measured[text]) for c, text in zip(candidates, texts, strict=True) if measured[text].usable]
    if len(pairs) < FEWEST_NETWORKS:
        failed = next((m for m in measured.values() if not m.usable), None)
        why = f"; the first that failed: {failed.status}, {', '.join(failed.reasons)}" if failed else ""
        raise ModelError(
            f"only {len(pairs)} whole networks could be measured, a predictor needs {FEWEST_NETWORKS}{why}"
            f" (the space has {moves.space.size} candidates; a smaller pruning.grain gives more)"
        )
    # A space with few candidates gives fewer networks than asked for: they are shared in the asked proportion.
    share = calibrating / (calibrating + config.table.holdout_networks)
    split = min(calibrating, max(2, round(len(pairs) * share)))
    fitted, held = pairs[:split], pairs[split:]
    (widths, remains), latencies, peaks = _arrays(moves.space, fitted)
    energies = [m.energy_mj for _, m in fitted]
    predictor = NetworkPredictor(moves.scalable, table).fit(
        widths, latencies, peaks, energy_mj=energies, blocks=remains
    )
    (widths, remains), latencies, peaks = _arrays(moves.space, held)
    floor = noise_floor(list(measured.values()))
    report = evaluate(predictor, widths, latencies, peaks, blocks=remains, noise_floor=floor).to_dict()
    networks = _holdout(predictor, moves.space, held)
    predictor.save(study.path("predictor.json"))
    content = {
        "report": report,
        "networks": [asdict(one) for one in networks],
        "calibration": [
            {
                "text": moves.space.text(c),
                "latency_ms": m.latency_ms,
                "peak_bytes": m.peak_bytes,
                "energy_mj": m.energy_mj,
            }
            for c, m in fitted
        ],
    }
    study.write_json("holdout.json", content)
    return Judged(predictor, networks, report, tuple(measured_as(c, m) for c, m in fitted))


def _arrays(space: PruningSpace, pairs: Sequence[tuple[Candidate, Measurement]]) -> tuple[Any, Any, Any]:
    """The widths and blocks, the latencies in ms and the peak bytes of measured candidates."""
    return (
        space.arrays([c for c, _ in pairs]),
        np.array([m.latency_ms for _, m in pairs]),
        np.array([float(m.peak_bytes) for _, m in pairs]),
    )


def _holdout(
    predictor: NetworkPredictor, space: PruningSpace, pairs: Sequence[tuple[Candidate, Measurement]]
) -> tuple[Holdout, ...]:
    predicted = predictor.predict(*space.arrays([candidate for candidate, _ in pairs]))
    return tuple(
        Holdout(
            text=space.text(candidate),
            predicted_ms=float(predicted.latency_ms[i]),
            low_ms=float(predicted.low_ms[i]),
            high_ms=float(predicted.high_ms[i]),
            sum_of_layers_ms=float(predicted.sum_of_layers_ms[i]),
            measured_ms=measurement.latency_ms,
            predicted_peak_bytes=float(predicted.peak_bytes[i]),
            measured_peak_bytes=float(measurement.peak_bytes),
        )
        for i, (candidate, measurement) in enumerate(pairs)
    )

"""Last stages: the front is measured on the device, the chosen networks recover, are exported and measured again.

What is measured in the end is the very file that is shipped, in one campaign with the base network, so that the
speed-up compares like with like.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from torch import nn

from hwloop.extraction import export_onnx
from hwloop.files import write_atomic
from hwloop.measurement import Bench, Interval, Measurement, Subject
from hwloop.predictors import NetworkPredictor
from hwloop.progress import Progress, Silent
from hwloop.pruning import Candidate
from hwloop.runtimes import Runtime
from hwloop.search import Constraint, Evaluated, choose, nondominated, parse_constraints
from hwloop.study.base import Base, fit_config
from hwloop.study.config import StudyConfig
from hwloop.study.directory import StudyDirectory
from hwloop.study.exported import count_correct
from hwloop.study.predictor_stage import artifact_of
from hwloop.study.result import NetworkResult
from hwloop.study.space import Moves
from hwloop.training import fit

MB = 1e6

#: Fresh processes of the last measurement, at least: the number that is published deserves more than a table entry.
FINAL_PROCESSES = 4


@dataclass(frozen=True)
class MeasuredCandidate:
    """A member of the search's front with what the device says of it.

    Attributes:
        evaluated: the candidate as the search evaluated it.
        predicted_ms: what the predictor said.
        measured: what the device said, with the base's weights.
        values: the objectives, measured numbers in place of predicted ones; lower is better.
        dominated: whether another measured candidate that keeps the constraints is at least as good in everything.
        violated: the constraints that the upper ends of its measured numbers break.
    """

    evaluated: Evaluated
    predicted_ms: float
    measured: Measurement
    values: tuple[float, ...]
    dominated: bool
    violated: tuple[str, ...] = ()


def measure_front(
    front: Sequence[Evaluated],
    config: StudyConfig,
    base: Base,
    moves: Moves,
    predictor: NetworkPredictor,
    runtime: Runtime,
    bench: Bench,
) -> list[MeasuredCandidate]:
    """Measure up to `search.measured` members of the front on the device; fastest first."""
    chosen = choose(front, config.search.measured)
    subjects = [Subject(e.text, artifact_of(runtime, base, moves, e.candidate)) for e in chosen]
    measurements = bench.measure(subjects, "front on the device")
    predicted = predictor.predict(*moves.space.arrays([e.candidate for e in chosen])).latency_ms
    found = [
        (e, float(ms), measurements[e.text])
        for e, ms in zip(chosen, predicted, strict=True)
        if measurements[e.text].usable
    ]
    values = [_measured_values(e, m, config.search.objectives) for e, _, m in found]
    constraints = parse_constraints(config.search.constraints)
    violated = [_violated(m, constraints) for _, _, m in found]
    keeps = np.array([not broken for broken in violated], dtype=bool)
    best = np.zeros(len(found), dtype=bool)
    best[keeps] = nondominated(np.array(values, dtype=np.float64).reshape(len(found), -1)[keeps])
    candidates = [
        MeasuredCandidate(e, ms, m, v, not is_best, broken)
        for (e, ms, m), v, is_best, broken in zip(found, values, best, violated, strict=True)
    ]
    return sorted(candidates, key=lambda c: c.measured.latency_ms)


def pick(candidates: Sequence[MeasuredCandidate], count: int, base: Candidate) -> list[MeasuredCandidate]:
    """The networks to fine-tune and ship: spread over the measured front, the base itself left out."""
    pruned = [c for c in candidates if not c.dominated and c.evaluated.candidate != base]
    by_text = {c.evaluated.text: c for c in pruned}
    return [by_text[e.text] for e in choose([c.evaluated for c in pruned], count)]


def ship(
    by_name: Mapping[str, Candidate],
    config: StudyConfig,
    base: Base,
    moves: Moves,
    network: Callable[[Candidate], nn.Module],
    study: StudyDirectory,
    progress: Progress,
) -> dict[str, bytes]:
    """Fine-tune and export networks; a file that an earlier run wrote is kept as it is.

    Args:
        by_name: the networks; "base" is exported without further training.
        config: the study's settings.
        base: the base network.
        moves: its surgery.
        network: a candidate with the weights that the fine-tune begins with.
        study: where ``models/NAME.onnx`` goes.
        progress: is told about each network.

    Returns:
        The ONNX files by name.
    """
    paths = {name: study.path("models", f"{name}.onnx") for name in by_name}
    done = sum(path.exists() for path in paths.values())
    with progress.step("fine-tuning and export", total=len(paths), done=done) as step:
        for name, candidate in by_name.items():
            if paths[name].exists():
                continue
            module = moves.surgery.apply(candidate) if name == BASE else network(candidate)
            if name != BASE and config.finetune.epochs:
                fit(
                    module,
                    base.data.train,
                    config=fit_config(config.finetune, config.study.seed),
                    progress=Silent(),
                )
            metadata = {
                "hwloop.candidate": moves.space.text(candidate),
                "hwloop.mean": json.dumps(list(base.data.mean)),
                "hwloop.std": json.dumps(list(base.data.std)),
                "hwloop.classes": json.dumps(list(base.data.classes)),
            }
            module.eval()
            write_atomic(paths[name], export_onnx(module, base.input_shape, fold=True, metadata=metadata))
            step.advance(1, name)
    return {name: path.read_bytes() for name, path in paths.items()}


def judge_shipped(
    models: Mapping[str, bytes],
    by_name: Mapping[str, Candidate],
    errors: Mapping[str, float],
    config: StudyConfig,
    base: Base,
    moves: Moves,
    predictor: NetworkPredictor,
    runtime: Runtime,
    bench: Bench,
) -> list[NetworkResult]:
    """Measure the exported files and count their accuracy; in the order of `models`.

    Args:
        models: ONNX files by name.
        by_name: their candidates.
        errors: the search's estimate of each one's error, by name.
        config: the study's settings.
        base: the base network, for the test images.
        moves: for parameters and MACs.
        predictor: for the predicted numbers.
        runtime: makes the artifacts.
        bench: measures them.
    """
    processes = max(FINAL_PROCESSES, config.measurement.processes)
    subjects = [Subject(name, runtime.onnx(model, name)) for name, model in models.items()]
    measured = bench.measure(subjects, "exported networks", processes)
    widths, remains = moves.space.arrays([by_name[name] for name in models])
    predicted = predictor.predict(widths, remains)
    macs = moves.scalable.macs(widths, remains)
    return [
        NetworkResult(
            name=name,
            text=moves.space.text(by_name[name]),
            correct=count_correct(model, base.data.test),
            images=len(base.data.test.labels),
            validation_error=errors[name],
            parameters=_parameters(model),
            macs=int(macs[i]),
            predicted_ms=float(predicted.latency_ms[i]),
            predicted_interval_ms=Interval(float(predicted.low_ms[i]), float(predicted.high_ms[i])),
            predicted_peak_bytes=int(predicted.peak_bytes[i]),
            measured=measured[name],
        )
        for i, (name, model) in enumerate(models.items())
    ]


def network_name(text: str) -> str:
    """File stem of a candidate: short, and the same in every run."""
    return "net-" + hashlib.sha256(text.encode()).hexdigest()[:6]


BASE = "base"


def _violated(m: Measurement, constraints: Sequence[Constraint]) -> tuple[str, ...]:
    """Which limits the upper ends of measured numbers are beyond; sizes were exact when the search checked them."""
    upper = _measured(m) | {"latency_ms": m.interval_ms.high}
    return tuple(str(each) for each in constraints if upper.get(each.name, 0.0) > each.limit)


def _measured_values(e: Evaluated, m: Measurement, objectives: Sequence[str]) -> tuple[float, ...]:
    measured = _measured(m)
    return tuple(measured.get(name, value) for name, value in zip(objectives, e.values, strict=True))


def _measured(m: Measurement) -> dict[str, float]:
    """What the device measures, by the names of objectives and constraints."""
    known = {"latency_ms": m.latency_ms, "peak_memory_mb": m.peak_bytes / MB}
    return known if m.energy_mj is None else known | {"energy_mj": m.energy_mj}


def _parameters(model: bytes) -> int:
    """Numbers in the weights of an exported file (batch normalisations are folded into them)."""
    return sum(int(np.prod(tensor.dims)) for tensor in onnx.load_from_string(model).graph.initializer)

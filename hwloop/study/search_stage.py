"""The search of a study: judged by the study's estimator, or by a rival with weights of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from hwloop.errors import StudyError
from hwloop.measurement import Subject
from hwloop.progress import Progress
from hwloop.search import (
    Constraint,
    ErrorOf,
    HardwareLoop,
    available_cpus,
    open_evaluator,
    parse_constraints,
    run_search,
    worker_count,
)
from hwloop.study.config import StudyConfig
from hwloop.study.device_loop import DeviceProber
from hwloop.study.judge_stage import make_estimator
from hwloop.study.predictor_stage import Judged, artifact_of
from hwloop.study.rivals import RIVALS
from hwloop.study.scene import Found, Scene
from hwloop_agent.journal import Journal


def search(scene: Scene, judged: Judged, folder: Path) -> Found:
    """Search, or go on; an algorithm with weights of its own has a stage of its own.

    Args:
        scene: what the search works with.
        judged: the predictor and the networks that it was fitted on.
        folder: of the study file; workers find a user's own modules there.

    Raises:
        StudyError: no network keeps the constraints, or the journal is of another search.
        UserError: more workers than CPUs, or a constraint with a rival that knows none.
    """
    path = scene.study.path("search.ndjson")
    with Journal.open(path) as journal:
        tell_cut(path, journal.cut_bytes, scene.progress)
        rival = RIVALS.get(scene.config.search.algorithm)
        return rival(scene, journal) if rival else _search_judged(scene, judged, folder, journal)


def _search_judged(scene: Scene, judged: Judged, folder: Path, journal: Journal) -> Found:
    """Search with the error estimates of the study's judge."""
    config, base, moves = scene.config, scene.base, scene.moves
    judge = make_estimator(config.judge.fidelity, config, base, moves, scene.study, scene.progress)
    workers = 1 if config.search.dask else workers_of(config)
    constraints = parse_constraints(config.search.constraints)
    prober = DeviceProber(
        scene.bench,
        lambda candidate: Subject(moves.space.text(candidate), artifact_of(scene.runtime, base, moves, candidate)),
    )
    with (
        closing(prober),
        open_evaluator(ErrorOf(judge), workers, config.search.dask, [folder.resolve()]) as evaluator,
    ):
        result = run_search(
            moves.space,
            evaluator,
            scene.predictor,
            config.search.objectives,
            algorithm=config.search.algorithm,
            population=config.search.population,
            generations=config.search.generations,
            seed=config.study.seed,
            journal=journal,
            progress=scene.progress,
            context={
                "data": base.data.fingerprint,
                "channel_order": moves.surgery.ordered_by,
                **judge.conditions,
            },
            constraints=constraints,
            hardware=_hardware(config, constraints, judged, scene, prober),
        )
    if not result.front:
        raise StudyError(
            f"none of {len(result.evaluated)} networks keeps {' and '.join(map(str, constraints))} by the upper end of"
            " its predicted interval; give looser limits, a smaller pruning.minimum_fraction, or more generations,"
            " and another study.directory"
        )
    return Found(result, moves.surgery.apply)


def _hardware(
    config: StudyConfig, constraints: Sequence[Constraint], judged: Judged, scene: Scene, prober: DeviceProber
) -> HardwareLoop | None:
    """How the device takes part; not at all where its latency decides nothing."""
    decisive = {*config.search.objectives, *(constraint.name for constraint in constraints)}
    if not config.search.device_trials or "latency_ms" not in decisive:
        return None
    if not judged.calibration:
        raise StudyError(
            "this study was begun by an older hwloop, which kept no calibration networks; set search.device_trials = 0"
            " or another study.directory"
        )
    space = scene.moves.space
    return HardwareLoop(config.search.device_trials, prober, lambda measured: judged.with_measured(measured, space))


def workers_of(config: StudyConfig) -> int:
    """The number of local workers.

    Raises:
        UserError: more than there are CPUs.
    """
    asked = config.search.workers
    return worker_count(None if asked == "auto" else asked, available_cpus())


def tell_cut(path: Path, cut_bytes: int, progress: Progress) -> None:
    """Say that the end of a journal was damaged."""
    if cut_bytes:
        progress.say(
            f"{path.name}: {cut_bytes} damaged bytes at the end were cut and kept beside it;"
            " everything before them is used"
        )

"""A study from its file to its result: each stage takes what the one before left, and leaves what the next one takes.

::

    base ─► moves ─► grain ─► table ─► predictor ─► search ─► front on the device ─► fine-tune, export ─► result

A stage whose result is in the study directory is not run again; the two journals (trials, evaluations) make the long
stages resume in the middle. Nothing that was measured or evaluated is done twice.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hwloop.devices import Device, Inventory
from hwloop.errors import ModelError, UserError
from hwloop.files import write_atomic
from hwloop.measurement import Bench, Identity, TrialStore
from hwloop.progress import Progress
from hwloop.pruning import get_criterion
from hwloop.runtimes import Runtime, get_runtime
from hwloop.search import Evaluated, SearchResult, get_objectives, list_algorithms, parse_constraints
from hwloop.study.base import prepare_base
from hwloop.study.config import StudyConfig, error_at, load_config
from hwloop.study.device import check_sensors, plan_of
from hwloop.study.directory import StudyDirectory
from hwloop.study.finalists import (
    BASE,
    MeasuredCandidate,
    judge_shipped,
    measure_front,
    network_name,
    pick,
    ship,
)
from hwloop.study.predictor_stage import Judged, fit_predictor
from hwloop.study.result import NetworkResult, StudyResult
from hwloop.study.rivals import RIVALS
from hwloop.study.scene import Scene
from hwloop.study.search_stage import search, tell_cut, workers_of
from hwloop.study.space import Moves, find_moves
from hwloop.study.table_stage import GrainSweep, describe, find_grain, tabulate

#: Fewer candidates than this are better listed than searched.
SMALLEST_SPACE = 8


def run_study(path: Path, progress: Progress) -> tuple[StudyResult, Path]:
    """Carry out a study, or what is left of it.

    Args:
        path: the study file.
        progress: is told what happens and how far it is.

    Returns:
        The result and the study directory.

    Raises:
        ConfigError: the file has a mistake.
        StudyError: the study directory belongs to another study or is in use.
        DataError: the data cannot be read or do not fit the network.
        ModelError: the network cannot be built, traced or pruned.
        DeviceError: the device was lost for good; everything measured is kept.
    """
    config = load_config(path)
    _check_names(config, path)
    device = _device(config, path)
    root = path.parent / (config.study.directory or path.stem)
    with StudyDirectory(root, config, path.read_text(encoding="utf-8")) as study:
        if study.resumed:
            progress.say(f"going on with the study in {root}")
        with TrialStore(study.path("trials.ndjson")) as store:
            tell_cut(store.path, store.cut_bytes, progress)
            return _run(config, path.parent, device, study, store, progress), root


def _run(
    config: StudyConfig,
    folder: Path,
    device: Device,
    study: StudyDirectory,
    store: TrialStore,
    progress: Progress,
) -> StudyResult:
    base = prepare_base(config, study, folder, progress)
    progress.say(
        f"base network: {config.model.name}, test accuracy {100 * base.test_accuracy:.2f} %"
        f" ({len(base.data.test.labels)} images of {base.data.name})"
    )
    runtime = get_runtime(config.measurement.runtime)
    bench = Bench(device, f"study-{config.fingerprint[:16]}", store, plan_of(config), progress)
    identity = bench.identify(study.path("device.json"))
    check_sensors(config, identity)
    runtime = runtime.for_device(identity.facts)

    moves = find_moves(config, base, runtime.fusion, study, progress)
    grain = _grain(config, moves, runtime, bench, study, progress)
    moves = moves.with_grain(grain.grain)
    if moves.space.size < SMALLEST_SPACE:
        raise ModelError(
            f"with a grain of {grain.grain} only {moves.space.size} candidates are left, nothing to search;"
            " set pruning.grain to a smaller number"
        )
    progress.say(
        f"pruning space: {len(moves.space.groups)} groups, {len(moves.space.blocks)} removable blocks,"
        f" {moves.space.size:.3g} candidates"
    )
    table = tabulate(moves, config.table, runtime, bench, study)
    judged = fit_predictor(config, base, moves, table, runtime, bench, study, progress)

    scene = Scene(config, base, moves, judged.predictor, runtime, bench, study, progress)
    searched = search(scene, judged, folder)
    found = searched.result
    predictor = judged.with_measured(found.measured, moves.space) if found.measured else judged.predictor
    front = measure_front(found.front, config, base, moves, predictor, runtime, bench)
    picked = pick(front, config.search.networks, moves.space.base)
    chosen = {BASE: moves.space.base} | {network_name(c.evaluated.text): c.evaluated.candidate for c in picked}
    models = ship(chosen, config, base, moves, searched.network, study, progress)
    errors = {BASE: 1 - base.validation_accuracy} | {
        network_name(c.evaluated.text): _error(c.evaluated, found.objectives) for c in picked
    }
    shipped = judge_shipped(models, chosen, errors, config, base, moves, predictor, runtime, bench)
    result = _result(config, shipped, found, front, judged, grain, bench, identity)
    _write_front(study.path("front.csv"), result)
    return result


def _check_names(config: StudyConfig, path: Path) -> None:
    """Refuse names that only other rooms know, with the line they are on."""
    try:
        get_objectives(config.search.objectives)
    except UserError as error:
        raise error_at(path, ("search", "objectives"), str(error)) from error
    try:
        get_runtime(config.measurement.runtime)
    except UserError as error:
        raise error_at(path, ("measurement", "runtime"), str(error)) from error
    try:
        get_criterion(config.pruning.criterion, config.pruning.criterion_settings)
    except UserError as error:
        raise error_at(path, ("pruning", "criterion"), str(error)) from error
    if config.search.algorithm not in (*list_algorithms(), *RIVALS):
        known = ", ".join(dict.fromkeys((*list_algorithms(), *RIVALS)))
        raise error_at(
            path,
            ("search", "algorithm"),
            f"there is no algorithm {config.search.algorithm!r}; known are {known}",
        )
    try:
        parse_constraints(config.search.constraints)
    except UserError as error:
        raise error_at(path, ("search", "constraints"), str(error)) from error
    try:
        workers_of(config)
    except UserError as error:
        raise error_at(path, ("search", "workers"), str(error)) from error
    if config.search.dask is not None and find_spec("distributed") is None:
        raise error_at(
            path, ("search", "dask"), "needs dask: install it with `pip install 'hwloop[dask]'`, or leave it out"
        )


def _device(config: StudyConfig, path: Path) -> Device:
    try:
        return Inventory.find(path.parent).get(config.device.name)
    except UserError as error:
        raise error_at(path, ("device", "name"), str(error)) from error


def _grain(
    config: StudyConfig,
    moves: Moves,
    runtime: Runtime,
    bench: Bench,
    study: StudyDirectory,
    progress: Progress,
) -> GrainSweep:
    if config.pruning.grain != "auto":
        return GrainSweep("", (), (), config.pruning.grain, 0.0, learned=False)
    sweep = find_grain(moves, runtime, bench, study)
    progress.say(describe(sweep))
    return sweep


def _error(evaluated: Evaluated, objectives: Sequence[str]) -> float:
    """The estimated error of a candidate; nan in a search that did not ask for it."""
    return dict(zip(objectives, evaluated.values, strict=True)).get("error", float("nan"))


def _result(
    config: StudyConfig,
    shipped: Sequence[NetworkResult],
    found: SearchResult,
    front: Sequence[MeasuredCandidate],
    judged: Judged,
    grain: GrainSweep,
    bench: Bench,
    identity: Identity,
) -> StudyResult:
    unpruned, *networks = shipped
    facts = unpruned.measured.provenance
    conditions: dict[str, Any] = {
        "device": f"{bench.device.name} ({identity.cpu})",
        "runtime": config.measurement.runtime,
        "runtime_version": facts["runtime_version"],
        "threads": config.device.threads,
        "governor": facts["governor"],
        "clock_mhz": facts["clock_mhz"],
        "temperature_c": facts["temperature_c"],
        "throttling": facts["throttle"],
        "canary_ratio": facts["canary_ratio"],
        "trials": len(bench.store),
        "grain": grain.grain,
        "confidence": bench.plan.timing.confidence,
        "measured_at": facts["measured_at"],
    }
    notes = [] if grain.learned or not grain.widths else [describe(grain)]
    if judged.predictor.missing:
        notes.append(f"never measured, so missing in every prediction: {', '.join(judged.predictor.missing)}")
    if found.exhausted:
        notes.append("the search ran out of new candidates before its last generation")
    if found.measured:
        by_candidate = {probe.candidate: probe for probe in found.probes}
        inside = sum(
            by_candidate[one.candidate].low_ms <= one.latency_ms <= by_candidate[one.candidate].high_ms
            for one in found.measured
        )
        notes.append(
            f"{len(found.measured)} networks were measured during the search, {inside} of them within the"
            f" {100 * judged.predictor.coverage.nominal:.0f} % interval that had been predicted before"
        )
    broken = [c.evaluated.text for c in front if c.violated]
    if broken:
        notes.append(f"{len(broken)} networks of the search's front broke a limit when they were measured: left out")
    flagged = [n.name for n in shipped if n.measured.status != "ok"]
    if flagged:
        notes.append(f"measured under degraded conditions: {', '.join(flagged)} (reasons in the report)")
    return StudyResult(
        name=config.study.name,
        settings=config.content(),
        base=unpruned,
        networks=tuple(sorted(networks, key=lambda n: n.measured.latency_ms)),
        objectives=found.objectives,
        candidates=[_candidate(e, found.objectives) for e in found.evaluated],
        measured_front=[
            {
                "candidate": c.evaluated.text,
                "error": _error(c.evaluated, found.objectives),
                "predicted_ms": c.predicted_ms,
                "measured_ms": c.measured.latency_ms,
                "dominated": c.dominated,
            }
            for c in front
        ],
        hypervolume=found.hypervolume,
        holdout=judged.holdout,
        predictor=judged.report,
        grain=grain,
        conditions=conditions,
        notes=tuple(notes),
    )


def _candidate(evaluated: Evaluated, objectives: Sequence[str]) -> Mapping[str, Any]:
    return {"candidate": evaluated.text} | dict(zip(objectives, evaluated.values, strict=True))


def _write_front(path: Path, result: StudyResult) -> None:
    rows = [network.row(result.base) for network in (result.base, *result.networks)]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, buffer.getvalue())

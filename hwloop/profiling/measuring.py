"""Measure one network on one device: end to end, its layers alone, a profile, memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hwloop.errors import ModelError
from hwloop.layers import Layer, Network
from hwloop.layers.ops import OPS
from hwloop.measurement import USABLE, Bench, Identity, Measurement, Subject, TimingProtocol, noise_floor
from hwloop.profiling.mapping import map_rows, onnx_names
from hwloop.profiling.memory import layer_memory, network_memory
from hwloop.profiling.model import Model
from hwloop.profiling.result import LayerResult, NetworkResult, Profile, ProfileRow, Timing
from hwloop.runtimes import Artifact, Runtime

NETWORK = "network"
NS_PER_MS = 1e6
PROFILED = TimingProtocol(warmup_s=0.05, warmup_runs=3, min_s=0.1, max_s=0.3, target_relative_interval=0.05)
"""Short: a profiler keeps every event of every run."""


@dataclass(frozen=True)
class Wanted:
    """What to measure besides the network end to end.

    Attributes:
        layers: every distinct layer alone.
        profile: the runtime's own profile.
    """

    layers: bool = False
    profile: bool = False


def measure_network(model: Model, runtime: Runtime, bench: Bench, identity: Identity, wanted: Wanted) -> NetworkResult:
    """Measure a network, its layers and its profile in one campaign, or go on with it.

    What the runtime cannot do is a result with its reason, not an error: the network, or single layers of it.

    Args:
        model: the network.
        runtime: for this device (`Runtime.for_device`).
        bench: the device, and the store of its trials.
        identity: what the device is.
        wanted: what else to measure.

    Raises:
        DeviceError: the device was lost for good; everything measured is in the bench's store.
    """
    network, unread = _read(model, runtime)
    about = f"{model.name} in {runtime.label}, {bench.plan.threads} thread{'s' if bench.plan.threads > 1 else ''}"
    subjects: list[Subject] = []
    refused: dict[str, str] = {}
    artifact, timing = _artifact(model, runtime)
    if artifact is not None:
        subjects.append(Subject(NETWORK, artifact))
    if wanted.layers and network is not None:
        layers, refused = _layers(network, runtime)
        subjects += layers
    measured = bench.measure(subjects, about) if subjects else {}
    if NETWORK in measured:
        timing = Timing.of(measured[NETWORK])
    records = _usable(measured.get(NETWORK), bench)
    profile = None
    if wanted.profile:
        profile = _profile(artifact, network, timing, bench, about)
    floor = noise_floor(list(measured.values()))
    context = _context([m for m in measured.values() if m.trial_ids], bench)
    missing = dict(refused)
    if wanted.layers:
        missing |= {"all layers": unread} if network is None else _failed(network, measured)
    return NetworkResult(
        model=model.name,
        device=bench.device.name,
        cpu=identity.cpu,
        runtime=runtime.label,
        threads=bench.plan.threads,
        agent_sha256=identity.agent_sha256,
        artifact_sha256=artifact.sha256 if artifact else None,
        artifact_bytes=len(artifact.data) if artifact else None,
        parameters=network.parameters if network else None,
        macs=network.macs if network else None,
        end_to_end=timing,
        memory=network_memory(records, network, profile.rows if profile else ()),
        layers=_layer_results(network, measured, bench) if wanted.layers and network else None,
        missing=missing,
        fusion=runtime.fusion.name if network else None,
        profile=profile,
        noise_floor=None if math.isnan(floor) else floor,
        **context,
    )


def add_layers(result: NetworkResult, model: Model, runtime: Runtime, bench: Bench) -> NetworkResult:
    """Measure the layers of a network that was measured end to end before, in a campaign and by a plan of their own.

    Args:
        result: of the same model, runtime, device and threads.
        model: the network.
        runtime: for this device.
        bench: the device, the store and the plan for layers.

    Raises:
        DeviceError: the device was lost for good.
    """
    network, unread = _read(model, runtime)
    if network is None:
        return result.model_copy(update={"missing": {"all layers": unread}})
    subjects, refused = _layers(network, runtime)
    measured = bench.measure(subjects, f"layers of {model.name} in {runtime.label}") if subjects else {}
    layers = _layer_results(network, measured, bench)
    missing = refused | _failed(network, measured)
    return result.model_copy(update={"layers": layers, "missing": missing, "fusion": runtime.fusion.name})


def _read(model: Model, runtime: Runtime) -> tuple[Network | None, str]:
    try:
        return model.network(runtime.fusion), ""
    except ModelError as error:
        return None, str(error)


def _artifact(model: Model, runtime: Runtime) -> tuple[Artifact | None, Timing]:
    try:
        return model.artifact(runtime), Timing(status="unsupported")
    except ModelError as error:
        return None, Timing(status="unsupported", reasons=(str(error),))


def _measurable(network: Network) -> dict[str, tuple[Layer, tuple[str, ...]]]:
    """The distinct layers that do work, by key, with the names of their nodes."""
    found: dict[str, tuple[Layer, tuple[str, ...]]] = {}
    for node in network.nodes:
        if node.layer.supported and not OPS[node.layer.op].view:
            _, names = found.get(node.layer.key, (node.layer, ()))
            found[node.layer.key] = (node.layer, (*names, node.name))
    return found


def _layers(network: Network, runtime: Runtime) -> tuple[list[Subject], dict[str, str]]:
    """The layers' artifacts, and why some have none."""
    subjects: list[Subject] = []
    refused = {node.name: f"unsupported: {node.layer.detail}" for node in network.unsupported}
    for key, (layer, names) in _measurable(network).items():
        try:
            subjects.append(Subject(key, runtime.layer(layer)))
        except ModelError as error:
            refused.update(dict.fromkeys(names, f"unsupported: {error}"))
    return subjects, refused


def _failed(network: Network, measured: Mapping[str, Measurement]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, (_, names) in _measurable(network).items():
        one = measured.get(key)
        if one is not None and not one.usable:
            found.update(dict.fromkeys(names, f"{one.status}: {'; '.join(one.reasons)}"))
    return found


def _layer_results(network: Network, measured: Mapping[str, Measurement], bench: Bench) -> tuple[LayerResult, ...]:
    return tuple(
        LayerResult(
            key=key,
            names=names,
            timing=Timing.of(measured[key]),
            memory=layer_memory(layer, _usable(measured[key], bench)),
        )
        for key, (layer, names) in _measurable(network).items()
        if key in measured
    )


def _usable(measured: Measurement | None, bench: Bench) -> list[Mapping[str, Any]]:
    records = [bench.store[trial_id] for trial_id in measured.trial_ids] if measured else []
    return [record for record in records if record["status"] in USABLE]


def _context(measured: Sequence[Measurement], bench: Bench) -> dict[str, Any]:
    """Version and settings of the runtime, and the time, as the first trial that knew them tells."""
    records = [bench.store[trial_id] for one in measured for trial_id in one.trial_ids]
    known = [record for record in records if record["runtime"].get("version")]
    about = known[0]["runtime"] if known else {}
    return {
        "runtime_version": about.get("version"),
        "settings": about.get("settings") or {},
        "measured_at": str(min((record["started_at"] for record in records), default="")),
    }


def _profile(artifact: Artifact | None, network: Network | None, clean: Timing, bench: Bench, about: str) -> Profile:
    if artifact is None:
        return Profile(status=clean.status, reasons=clean.reasons)
    plan = replace(bench.plan, timing=PROFILED, processes=1)
    profiled = replace(artifact, extras={**artifact.extras, "profile": True})
    measured = replace(bench, plan=plan).measure([Subject(NETWORK, profiled)], f"profile of {about}")[NETWORK]
    record = bench.store[measured.trial_ids[0]]
    found = record.get("profile")
    if found is None or not measured.usable:
        return Profile(status=measured.status, reasons=measured.reasons, clean_ms=clean.latency_ms)
    names: dict[str, int] = {}
    if network and artifact.suffix == ".onnx":
        names = onnx_names(artifact.data, network)
    elif network and artifact.suffix == ".calls":  # torch's rows carry the paths of their modules
        names = {node.name: index for index, node in enumerate(network.nodes)}
    rows = found["rows"]
    owners = map_rows(rows, network, names) if network else [None] * len(rows)
    return Profile(
        status=measured.status,
        reasons=measured.reasons,
        method=found["method"],
        runs=found["runs"],
        profiled_ms=measured.latency_ms,
        clean_ms=clean.latency_ms,
        rows=tuple(
            ProfileRow(
                name=row["name"],
                op=row["op"],
                layer=network.nodes[owner].name if network and owner is not None else None,
                latency_ms=row["ns"] / NS_PER_MS,
                calls=row["calls"],
                memory=row.get("memory") or {},
            )
            for row, owner in zip(rows, owners, strict=True)
        ),
    )

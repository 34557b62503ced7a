"""From layers to a table: one campaign."""

from __future__ import annotations

from collections.abc import Iterable

from hwloop.errors import ModelError
from hwloop.layers import Layer
from hwloop.layers.ops import OPS
from hwloop.measurement import Bench, Identity, Subject
from hwloop.runtimes import Runtime
from hwloop.tables.latency_table import LatencyTable
from hwloop.tables.row import Context, Row


def measure_layers(
    layers: Iterable[Layer],
    runtime: Runtime,
    bench: Bench,
    identity: Identity,
    description: str,
    processes: int | None = None,
) -> LatencyTable:
    """Measure layers on a device.

    Args:
        layers: what to measure; the same layer twice is measured once, views and unsupported layers are left out.
        runtime: makes the artifacts; for this device.
        bench: the device, and the store of its trials.
        identity: what the device is, for the rows.
        description: of the campaign, for the progress.
        processes: fresh processes per layer; the bench's plan by default.

    Returns:
        A table of grain 1 with a row for every layer, also for those that failed, and for those that the runtime
        refuses: they are `unsupported`, with its own words.

    Raises:
        DeviceError: the device was lost for good; everything measured is in the bench's store.
    """
    distinct = {layer.key: layer for layer in layers if layer.supported and not OPS[layer.op].view}
    subjects: list[Subject] = []
    refused: dict[str, str] = {}
    for key, layer in distinct.items():
        try:
            subjects.append(Subject(key, runtime.layer(layer)))
        except ModelError as error:
            refused[key] = str(error)
    measured = bench.measure(subjects, description, processes) if subjects else {}
    records = {key: [bench.store[trial_id] for trial_id in found.trial_ids] for key, found in measured.items()}
    # A layer whose runtime died before it could say its version was measured with the one that the others name.
    named = (record["runtime"]["version"] for found in records.values() for record in found)
    probed = (identity.facts.get("runtimes") or {}).get(runtime.name) or {}
    version = next((one for one in named if one is not None), None) or probed.get("version") or "unknown"
    fusion = runtime.fusion.name
    rows = {
        key: Row.of(
            distinct[key],
            measurement,
            records[key],
            device=bench.device.name,
            cpu=identity.cpu,
            agent_sha256=identity.agent_sha256,
            runtime_version=str(version),
            runtime=runtime.label,
            fusion=fusion,
        )
        for key, measurement in measured.items()
    }
    if refused:
        measured_in = [row.context for row in rows.values()]
        context = (
            measured_in[0]
            if measured_in
            else Context(bench.device.name, identity.cpu, runtime.label, str(version), bench.plan.threads)
        )
        for key, reason in refused.items():
            rows[key] = Row.refused(distinct[key], reason, context, agent_sha256=identity.agent_sha256, fusion=fusion)
    return LatencyTable(rows[key] for key in distinct)

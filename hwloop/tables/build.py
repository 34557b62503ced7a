"""From layers to a table: one campaign."""

from __future__ import annotations

from collections.abc import Iterable

from hwloop.layers import Layer
from hwloop.layers.ops import OPS
from hwloop.measurement import Bench, Identity, Subject
from hwloop.runtimes import Runtime
from hwloop.tables.latency_table import LatencyTable
from hwloop.tables.row import Row


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
        runtime: makes the artifacts.
        bench: the device, and the store of its trials.
        identity: what the device is, for the rows.
        description: of the campaign, for the progress.
        processes: fresh processes per layer; the bench's plan by default.

    Returns:
        A table of grain 1 with a row for every measured layer, also for those that failed.

    Raises:
        ModelError: the runtime has no artifact for a layer.
        DeviceError: the device was lost for good; everything measured is in the bench's store.
    """
    distinct = {layer.key: layer for layer in layers if layer.supported and not OPS[layer.op].view}
    subjects = [Subject(key, runtime.layer(layer)) for key, layer in distinct.items()]
    measured = bench.measure(subjects, description, processes)
    return LatencyTable(
        Row.of(
            distinct[key],
            measurement,
            [bench.store[trial_id] for trial_id in measurement.trial_ids],
            device=bench.device.name,
            cpu=identity.cpu,
            agent_sha256=identity.agent_sha256,
        )
        for key, measurement in measured.items()
    )

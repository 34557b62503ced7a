"""Second stage: the grain of the device, the table of its layers, and whole networks to correct their sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hwloop.layers import Layer
from hwloop.measurement import Measurement, Subject, layer_design, noise_floor
from hwloop.progress import Progress
from hwloop.runtimes import Runtime
from hwloop.study.device import Bench, Identity
from hwloop.study.directory import StudyDirectory
from hwloop.study.space import Moves
from hwloop.tables import Grain, LatencyTable, Row, learn_grain

#: Output widths of the sweep that shows the grain: both edges of blocks of 8, 16 and 32, and one block in full.
SWEEP = (17, 20, 24, 25, 29, 32, *range(33, 49), 52, 56, 57, 61, 64)


@dataclass(frozen=True)
class GrainSweep:
    """What the device showed when one layer grew channel by channel.

    Attributes:
        layer: key of the layer whose output width was swept.
        widths: the output widths.
        latencies_ms: one per width.
        grain: what was learned.
    """

    layer: str
    widths: tuple[int, ...]
    latencies_ms: tuple[float, ...]
    grain: int
    evidence: float


def find_grain(moves: Moves, runtime: Runtime, bench: Bench, study: StudyDirectory) -> GrainSweep:
    """Learn the grain from the space's most typical convolution, once per study.

    Typical is the ungrouped convolution with the most MACs among those with the largest kernel. Its output width runs
    through `SWEEP`, its input width stays. Without a convolution the grain is 1.
    """
    if study.has("grain.json"):
        known = study.read_json("grain.json")
        return GrainSweep(
            known["layer"],
            tuple(known["widths"]),
            tuple(known["latencies_ms"]),
            known["grain"],
            known["evidence"],
        )
    swept = _sweep(moves.network.layers)
    if not swept:
        sweep = GrainSweep("", (), (), 1, 0.0)
    else:
        subjects = [Subject(layer.key, runtime.layer(layer)) for layer in swept]
        measured = bench.measure(subjects, "grain of the device")
        used = [(layer, measured[layer.key]) for layer in swept if measured[layer.key].usable]
        widths = tuple(layer.out_channels for layer, _ in used)
        latencies = tuple(m.latency_ms for _, m in used)
        grain: Grain = learn_grain(widths, latencies, noise_floor([m for _, m in used]))
        sweep = GrainSweep(swept[-1].key, widths, latencies, grain.step, grain.evidence)
    study.write_json("grain.json", sweep.__dict__)
    return sweep


def measure_layers(
    moves: Moves, levels: int, runtime: Runtime, bench: Bench, identity: Identity, study: StudyDirectory
) -> LatencyTable:
    """Measure the layers that the space can produce, and write the table."""
    designed = layer_design(moves.scalable, [moves.space.levels(g) for g in range(len(moves.space.groups))], levels)
    subjects = [Subject(layer.key, runtime.layer(layer)) for layer in designed]
    measured = bench.measure(subjects, "layers for the latency table")
    by_key = {layer.key: layer for layer in designed}
    rows = [_row(by_key[key], m, bench, identity) for key, m in measured.items()]
    table = LatencyTable(rows, grain=moves.space.grain)
    table.save(study.path("table.parquet"))
    return table


def describe(grain: GrainSweep, progress: Progress) -> None:
    """Tell what the sweep showed."""
    if grain.grain > 1:
        progress.say(f"grain of the device: {grain.grain} channels (evidence {grain.evidence:.0f})")
    else:
        progress.say("grain of the device: no staircase seen, widths move channel by channel")


def _sweep(layers: Sequence[Layer]) -> list[Layer]:
    convolutions = [layer for layer in layers if layer.op == "conv" and layer.groups == 1]
    if not convolutions:
        return []
    typical = max(convolutions, key=lambda layer: (layer.kernel[0] * layer.kernel[1], layer.macs))
    return [typical.resized((typical.in_channels,), width) for width in SWEEP]


def _row(layer: Layer, measurement: Measurement, bench: Bench, identity: Identity) -> Row:
    return Row.of(
        layer,
        measurement,
        [bench.store[trial_id] for trial_id in measurement.trial_ids],
        device=bench.device.name,
        cpu=identity.cpu,
        agent_sha256=identity.agent_sha256,
    )

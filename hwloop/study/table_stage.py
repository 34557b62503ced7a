"""Second stage: the grain of the device, the table of its layers, and whole networks to correct their sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from hwloop.layers import Layer
from hwloop.measurement import Measurement, Subject, layer_design
from hwloop.runtimes import Runtime
from hwloop.study.config import TableSection
from hwloop.study.device import Bench, Identity
from hwloop.study.directory import StudyDirectory
from hwloop.study.space import Moves
from hwloop.tables import Grain, LatencyTable, Row, learn_grain

#: Output widths of the sweep that shows the grain: both edges of blocks of 8, 16 and 32, and one block in full.
SWEEP = (17, 20, 24, 25, 28, 32, 33, 34, 36, 38, 40, 41, 42, 44, 46, 48, 49, 52, 56, 57, 60, 64)

#: Of so many widths there must be a trustworthy number, or the grain is not learned but assumed.
FEWEST_WIDTHS = 12

#: What is assumed then: finer steps would land on widths that blocked kernels handle badly (a layer of 41 channels can
#: be slower than one of 48), coarser ones only leave candidates out.
ASSUMED_GRAIN = 8

#: A sweep has one process per width, so its trials get more attempts at good conditions.
SWEEP_ATTEMPTS = 5

#: Relative noise of one point of the sweep, measured in one process.
SWEEP_NOISE = 0.03


@dataclass(frozen=True)
class GrainSweep:
    """What the device showed when one layer grew channel by channel.

    Attributes:
        layer: key of the layer whose output width was swept.
        widths: the output widths.
        latencies_ms: one per width.
        grain: channels per step.
        evidence: how much better the staircase explains the sweep than a line, see `hwloop.tables.Grain`.
        learned: False when the conditions were too bad to learn it and `ASSUMED_GRAIN` stands in.
    """

    layer: str
    widths: tuple[int, ...]
    latencies_ms: tuple[float, ...]
    grain: int
    evidence: float
    learned: bool


def find_grain(moves: Moves, runtime: Runtime, bench: Bench, study: StudyDirectory) -> GrainSweep:
    """Learn the grain from the space's most typical convolution, once per study.

    Typical is the ungrouped convolution with the most MACs among those with the largest kernel. Its output width runs
    through `SWEEP`, its input width stays. Without a convolution the grain is 1.
    """
    if study.has("grain.json"):
        known = study.read_json("grain.json")
        return GrainSweep(**{**known, "widths": tuple(known["widths"]), "latencies_ms": tuple(known["latencies_ms"])})
    swept = _sweep(moves.network.layers)
    if not swept:
        sweep = GrainSweep("", (), (), 1, 0.0, learned=True)
    else:
        subjects = [Subject(layer.key, runtime.layer(layer)) for layer in swept]
        careful = replace(bench, plan=replace(bench.plan, processes=1, attempts=SWEEP_ATTEMPTS))
        measured = careful.measure(subjects, "grain of the device")
        # A degraded number is too slow by an unknown amount: enough of them look like steps.
        used = [(layer, measured[layer.key]) for layer in swept if measured[layer.key].status == "ok"]
        widths = tuple(layer.out_channels for layer, _ in used)
        latencies = tuple(m.latency_ms for _, m in used)
        if len(used) < FEWEST_WIDTHS:
            sweep = GrainSweep(swept[-1].key, widths, latencies, ASSUMED_GRAIN, 0.0, learned=False)
        else:
            grain: Grain = learn_grain(widths, latencies, SWEEP_NOISE)
            sweep = GrainSweep(swept[-1].key, widths, latencies, grain.step, grain.evidence, learned=True)
    study.write_json("grain.json", asdict(sweep))
    return sweep


def measure_layers(
    moves: Moves, section: TableSection, runtime: Runtime, bench: Bench, identity: Identity, study: StudyDirectory
) -> LatencyTable:
    """Measure the layers that the space can produce, and write the table."""
    designed = layer_design(
        moves.scalable, [moves.space.levels(g) for g in range(len(moves.space.groups))], section.levels
    )
    subjects = [Subject(layer.key, runtime.layer(layer)) for layer in designed]
    measured = bench.measure(subjects, "layers for the latency table", section.processes)
    by_key = {layer.key: layer for layer in designed}
    rows = [_row(by_key[key], m, bench, identity) for key, m in measured.items()]
    table = LatencyTable(rows, grain=moves.space.grain)
    table.save(study.path("table.parquet"))
    return table


def describe(grain: GrainSweep) -> str:
    """What the sweep showed, in one sentence."""
    if not grain.learned:
        return (
            f"grain of the device: not learned, only {len(grain.widths)} of {len(SWEEP)} widths could be measured under"
            f" good conditions; {grain.grain} channels are assumed (pruning.grain sets another)"
        )
    if grain.grain > 1:
        return f"grain of the device: {grain.grain} channels (evidence {grain.evidence:.0f})"
    return "grain of the device: no staircase seen, widths move channel by channel"


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

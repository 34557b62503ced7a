"""Second stage: the grain of the device, the table of its layers, and whole networks to correct their sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from hwloop.layers import Layer
from hwloop.measurement import Bench, Subject, layer_design
from hwloop.runtimes import Runtime
from hwloop.study.config import TableSection
from hwloop.study.directory import StudyDirectory
from hwloop.study.space import Moves
from hwloop.tables import Grain, LatencyTable, learn_grain, measure_layers

#: Output widths of the sweep that shows the grain: both edges of blocks of 8, 16 and 32, and what lies between.
SWEEP = (17, 24, 25, 28, 32, 33, 36, 38, 40, 41, 42, 44, 46, 48, 49, 52, 56, 57, 64)

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


def tabulate(
    moves: Moves, section: TableSection, runtime: Runtime, bench: Bench, study: StudyDirectory
) -> LatencyTable:
    """Measure the layers that the space can produce, and write the table."""
    levels = [moves.space.levels(g) for g in range(len(moves.space.groups))]
    designed = layer_design(moves.scalable, levels, section.levels)
    identity = bench.identify(study.path("device.json"))
    table = measure_layers(
        designed, runtime, bench, identity, "layers for the latency table", section.processes
    ).with_grain(moves.space.grain)
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

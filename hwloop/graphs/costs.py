"""The measured rounds of a run: which subjects go to the device, and what their numbers say. Pure but for measuring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hwloop.graphs.deployment import Deployed, deployed_graph, measure_deployed, state_of
from hwloop.graphs.graph import GraphSet
from hwloop.graphs.masks import whole
from hwloop.graphs.networks import GraphNetwork
from hwloop.graphs.runfolder import RunFolder
from hwloop.measurement import Bench, Measurement, Ratio, judge, noise_floor
from hwloop.runtimes import Runtime

EDGES_ONLY = "edges only"
WEIGHTS_ONLY = "weights only"
NOTES = {
    "faster": "this brings time",
    "slower": "this costs time",
    "within noise": "no difference was measured",
}


@dataclass(frozen=True)
class Measured:
    """What a run costs on a device.

    Attributes:
        rounds: by number.
        alone: the last round's cut of the edges only, and of the weights only, by their names.
    """

    rounds: Mapping[int, Measurement]
    alone: Mapping[str, Measurement]

    @property
    def floor(self) -> float:
        """See `hwloop.measurement.noise_floor`."""
        return noise_floor([*self.rounds.values(), *self.alone.values()])

    def ratio(self, one: Measurement) -> Ratio | None:
        """A latency against the unpruned network's; None where one of them was not measured."""
        base = self.rounds.get(0)
        if base is None or not (base.usable and one.usable):
            return None
        floor = self.floor
        return judge(_numbers(base), _numbers(one), None if floor != floor else floor)

    def notes(self, edge_sparsity: float, weight_sparsity: float) -> Sequence[str]:
        """What each sparsity brought on this device, in one line each."""
        said = []
        for name, cut, of in ((EDGES_ONLY, edge_sparsity, "edges"), (WEIGHTS_ONLY, weight_sparsity, "weights")):
            ratio = self.ratio(self.alone[name]) if name in self.alone else None
            if ratio is not None:
                said.append(
                    f"{cut:.1%} of the {of} cut, nothing else: {ratio.value:.3f} of the latency"
                    f" ({ratio.interval.low:.3f} to {ratio.interval.high:.3f}): {NOTES[ratio.verdict]}"
                )
        if any(self.ratio(one) for name, one in self.alone.items() if name == WEIGHTS_ONLY):
            said.append("weights that are cut one by one stay in dense matrices as zeros; narrower layers bring time")
        return said


def measure_rounds(
    data: GraphSet, network: GraphNetwork, folder: RunFolder, runtime: Runtime, bench: Bench
) -> Measured:
    """Measure the network and graphs of every finished round, and the last round's cuts one by one.

    Raises:
        ModelError: the runtime cannot have the network.
        DeviceError: the device was lost for good; what was measured is kept.
    """
    numbers = [one.round for one in folder.rounds]
    subjects: dict[str, Deployed] = {}
    for number in numbers:
        left = folder.checkpoint(number)
        trained, pruned = state_of(network, left.ticket), deployed_graph(data.keep(left.edges))
        subjects[f"round {number}"] = Deployed(trained, left.masks, pruned)
        if number == numbers[-1] and number > 0:
            subjects[EDGES_ONLY] = Deployed(trained, whole(network), pruned)
            subjects[WEIGHTS_ONLY] = Deployed(trained, left.masks, deployed_graph(data))
    found = measure_deployed(subjects, runtime, bench, f"{len(subjects)} pruned networks with their graphs")
    return Measured(
        {number: found[f"round {number}"] for number in numbers},
        {name: found[name] for name in (EDGES_ONLY, WEIGHTS_ONLY) if name in found},
    )


def _numbers(one: Measurement) -> tuple[float, float, float]:
    return one.interval_ms.low, one.latency_ms, one.interval_ms.high

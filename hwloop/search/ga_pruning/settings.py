"""What the evolution minimises, and for how long."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from hwloop.errors import ConfigError


@dataclass(frozen=True)
class GaSettings:
    """Coefficients and budget; the paper's are not known, these are ours.

    Attributes:
        error: coefficient of the share of wrong answers.
        computation: coefficient of the share of convolution computation that is left.
        parameters: coefficient of the share of parameters that is left (one minus the sparsity).
        granularity: of the convolutions: "unstructured" zeroes single weights, "coarse" whole filters and kernels.
        population: genomes per generation.
        generations: per round.
        rounds: of evolution and retraining.
        images: held-out images that genomes of one round are compared on.
        epochs: of each round's retraining.
        learning_rate: its peak; halved, up to three times, where a retraining diverges.
        batch_size: images per step.
        weight_decay: L2 penalty.
        distillation: weight of the unpruned network's answers against the labels' in the retraining, 0 to 1.
        tolerance: accuracy on the held-out images that may be lost against the unpruned network, as a share; a round
            that loses more is undone.
        patience: rounds in a row that are undone before the search gives up.
        caution: the coefficient of the error is multiplied by this after every round that is undone.
        boldness: it is divided by this after every other round. Genomes are judged before they are retrained, which
            mends most of what they lose: no coefficient can know how much.
        largest_cut: share of a layer that one mutation zeroes at most.
    """

    error: float
    computation: float
    parameters: float
    granularity: Literal["unstructured", "coarse"]
    population: int = 12
    generations: int = 8
    rounds: int = 10
    images: int = 1500
    epochs: int = 5
    learning_rate: float = 0.05
    batch_size: int = 128
    weight_decay: float = 5e-4
    distillation: float = 0.5
    tolerance: float = 0.002
    patience: int = 4
    caution: float = 2.0
    boldness: float = 2.0
    largest_cut: float = 0.3

    def __post_init__(self) -> None:
        for name, valid, limit in (
            ("error", self.error > 0, "positive"),
            ("computation", self.computation >= 0, "at least 0"),
            ("parameters", self.parameters >= 0, "at least 0"),
            ("granularity", self.granularity in ("unstructured", "coarse"), "'unstructured' or 'coarse'"),
            ("population", self.population >= 2, "at least 2"),
            ("generations", self.generations >= 1, "at least 1"),
            ("rounds", self.rounds >= 1, "at least 1"),
            ("images", self.images >= 1, "at least 1"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "a positive number"),
            ("distillation", 0 <= self.distillation <= 1, "0 to 1"),
            ("tolerance", 0 <= self.tolerance < 1, "a share of the images, from 0 to below 1"),
            ("patience", self.patience >= 1, "at least 1"),
            ("caution", self.caution >= 1, "at least 1"),
            ("boldness", self.boldness >= 1, "at least 1"),
            ("largest_cut", 0 < self.largest_cut < 1, "between 0 and 1"),
        ):
            if not valid:
                raise ConfigError(f"ga-pruning: {name} is {getattr(self, name)!r}: it must be {limit}")

    def fitness(self, error: float, computation: float, parameters: float) -> float:
        """The one scalar that is minimised: a weighted sum of three shares."""
        return self.error * error + self.computation * computation + self.parameters * parameters

    def after(self, accepted: Sequence[bool]) -> GaSettings:
        """The settings of a round after others: see `caution` and `boldness`."""
        factor = math.prod(1 / self.boldness if each else self.caution for each in accepted)
        return replace(self, error=self.error * factor)

    def to_record(self) -> dict[str, Any]:
        """The settings as JSON-able data."""
        return asdict(self)


EMPHASES: Mapping[str, GaSettings] = {
    "sparsity": GaSettings(error=3.0, computation=0.0, parameters=1.0, granularity="unstructured"),
    "computation": GaSettings(error=2.0, computation=1.0, parameters=0.05, granularity="coarse"),
}
"""The paper's two runs."""

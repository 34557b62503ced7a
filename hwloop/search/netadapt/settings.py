"""What NetAdapt may choose, and what its released code chose."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from hwloop.errors import ConfigError


@dataclass(frozen=True)
class NetAdaptSettings:
    """The budget and the steps towards it.

    Attributes:
        resource: the objective that is brought down; cheap, such as "latency_ms".
        budget: share of the base network's resource at which the loop ends.
        step: the first iteration's reduction, as a share of the base network's resource.
        decay: each iteration's reduction is that of the one before times this.
        select: "accuracy" takes the proposal with the fewest errors (the paper's algorithm 1); "ratio" the one that
            loses the least accuracy per resource saved (the released code, where the paper's line is commented out).
    """

    resource: str = "latency_ms"
    budget: float = 0.25
    step: float = 0.025
    decay: float = 0.96
    select: Literal["accuracy", "ratio"] = "accuracy"

    def __post_init__(self) -> None:
        if not 0 < self.budget < 1:
            raise ConfigError(f"netadapt: budget is {self.budget}: it is a share of the base network, between 0 and 1")
        if not 0 < self.step < 1:
            raise ConfigError(f"netadapt: step is {self.step}: it is a share of the base network, between 0 and 1")
        if not 0 < self.decay <= 1:
            raise ConfigError(f"netadapt: decay is {self.decay}: it must be above 0 and at most 1")
        if self.select not in ("accuracy", "ratio"):
            raise ConfigError(f"netadapt: select is {self.select!r}: it can be 'accuracy' or 'ratio'")

    def to_record(self) -> dict[str, str]:
        """The settings as a search's fingerprint holds them."""
        return {f"netadapt_{name}": str(value) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class TuningSettings:
    """The short-term fine-tune of one proposal.

    Attributes:
        steps: mini-batches; 500 in the released scripts, 10 by default there.
        learning_rate: the peak of `hwloop.training.fit`'s one-cycle schedule; the released code keeps 1e-3 throughout.
        batch_size: images per step.
        weight_decay: L2 penalty.
        augment: random crops.
        flip: random mirror images.
    """

    steps: int = 50
    learning_rate: float = 1e-2
    batch_size: int = 128
    weight_decay: float = 1e-4
    augment: bool = False
    flip: bool = False

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ConfigError(f"netadapt: steps is {self.steps}: the short-term fine-tune takes 0 steps or more")

    def to_record(self) -> dict[str, str]:
        """The settings as a search's fingerprint holds them."""
        return {f"tuning_{name}": str(value) for name, value in asdict(self).items()}

"""What every criterion is."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hwloop.pruning.criteria.evidence import Evidence
from hwloop.pruning.groups import ChannelGroup

Scores = dict[str, NDArray[np.float64]]
"""By group name, (width,) scores; the channels with the largest stay longest."""


class Criterion(ABC):
    """Scores the channels of a network's groups. Subclasses are frozen dataclasses whose fields are their settings.

    A criterion leaves the network as it was: parameters, statistics, gradients, flags and modes. It is deterministic
    under the seed of the evidence, on one machine. Scores are compared within a group, never between groups.

    Attributes:
        name: in study files and on the command line.
        needs_images: whether it looks at images and labels.
        seeded: whether the seed matters.
        equivariant: whether the scores follow the channels when a network's channels are permuted.
    """

    name: ClassVar[str]
    needs_images: ClassVar[bool] = False
    seeded: ClassVar[bool] = False
    equivariant: ClassVar[bool] = True

    @abstractmethod
    def scores(self, module: nn.Module, groups: Sequence[ChannelGroup], evidence: Evidence) -> Scores:
        """Return the scores of all groups.

        Args:
            module: the network; left untouched.
            groups: its channel groups.
            evidence: what is known besides the weights.

        Raises:
            ModelError: Images are needed and there are none, or the network fails on them.
        """

    def provenance(self, evidence: Evidence) -> str:
        """Return what decides the scores besides the network, as text; two that differ must not be mixed."""
        settings: dict[str, Any] = (
            {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
            if dataclasses.is_dataclass(self)
            else {}
        )
        text = self.name + (f"({', '.join(f'{key}={value}' for key, value in settings.items())})" if settings else "")
        if self.needs_images:
            images = evidence.needed_by(self.name)
            text += f" on {len(images)} images {evidence.fingerprint} in batches of {evidence.batch_size}"
        return f"{text}, seed {evidence.seed}" if self.seeded else text


class WeightCriterion(Criterion):
    """A criterion that looks at one group's weights at a time."""

    @abstractmethod
    def of_group(self, module: nn.Module, group: ChannelGroup) -> NDArray[np.float64]:
        """Return the (width,) scores of one group."""

    def scores(self, module: nn.Module, groups: Sequence[ChannelGroup], evidence: Evidence) -> Scores:
        """Return the scores of all groups, each from its own weights; the evidence is not looked at."""
        return {group.name: self.of_group(module, group) for group in groups}

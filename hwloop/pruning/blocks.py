"""Residual blocks that a candidate may leave out, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RemovableBlock:
    """A residual branch that can go; its shortcut, and what is computed before and behind both, remains.

    Attributes:
        name: path of the module that is the block ("layer1.1"); of the branch's first layer where several blocks share
            one forward function.
        owner: path of the module whose forward function adds branch and shortcut; "" is the network itself.
        sum: name of the addition in the traced graph (`torch.fx`).
        keeps: name of the operation whose result remains in its place; the shortcut's last, or what the branch reads.
        branch: paths of all modules that go.
        layers: those of them that are convolutions or linear layers.
        silenced: path of the module of the branch whose outputs, multiplied by zero, make the branch's result zero.
        drops_activation: a ReLU behind the sum goes as well, because what remains is never negative.
    """

    name: str
    owner: str
    sum: str
    keeps: str
    branch: tuple[str, ...]
    layers: tuple[str, ...]
    silenced: str
    drops_activation: bool

    def to_record(self) -> dict[str, Any]:
        """Return the block as JSON-able data."""
        return {
            "name": self.name,
            "owner": self.owner,
            "sum": self.sum,
            "keeps": self.keeps,
            "branch": list(self.branch),
            "layers": list(self.layers),
            "silenced": self.silenced,
            "drops_activation": self.drops_activation,
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> RemovableBlock:
        """Read what `to_record` wrote."""
        return cls(**{**record, "branch": tuple(record["branch"]), "layers": tuple(record["layers"])})


@dataclass(frozen=True)
class FixedBlock:
    """A residual sum whose branch stays.

    Attributes:
        name: as of a removable block; the network's class where its graph cannot be traced at all.
        reason: why it cannot be removed.
    """

    name: str
    reason: str

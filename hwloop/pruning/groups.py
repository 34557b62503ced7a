"""Channels that can only be removed together, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Side = Literal["out", "in", "both", "parameter"]


@dataclass(frozen=True)
class Coupling:
    """How one side of one module follows a group.

    Attributes:
        target: path of the module, or of the parameter where `side` is "parameter".
        side: "out" (filters), "in" (what filters read), "both" (one value per channel: batch normalisation,
            depthwise convolution, …), or "parameter" (a parameter that belongs to no layer, along `dim`).
        channels: for each index of that side the channel of the group, or -1 where it is not of this group
            (concatenation); a channel occurs several times after a flatten.
        dim: of the parameter, for "parameter" only.
    """

    target: str
    side: Side
    channels: tuple[int, ...]
    dim: int = 0


@dataclass(frozen=True)
class ChannelGroup:
    """Channels of one or more layers that must have the same width.

    Attributes:
        name: path of the first root.
        width: channels of the unpruned network.
        roots: paths of all convolutions and linear layers whose outputs are exactly this group, in the order of the
            network's modules. Depthwise convolutions follow their input and are no roots.
        divisor: every width must be a multiple of it (grouped convolutions).
        couplings: all that is sliced when channels of the group go.
    """

    name: str
    width: int
    roots: tuple[str, ...]
    divisor: int = 1
    couplings: tuple[Coupling, ...] = field(default=(), repr=False)

    def to_record(self) -> dict[str, Any]:
        """Return the group as JSON-able data."""
        return {
            "name": self.name,
            "width": self.width,
            "roots": list(self.roots),
            "divisor": self.divisor,
            "couplings": [
                {
                    "target": coupling.target,
                    "side": coupling.side,
                    "channels": _packed(coupling.channels, self.width),
                    "dim": coupling.dim,
                }
                for coupling in self.couplings
            ],
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> ChannelGroup:
        """Read what `to_record` wrote."""
        return cls(
            name=record["name"],
            width=record["width"],
            roots=tuple(record["roots"]),
            divisor=record["divisor"],
            couplings=tuple(
                Coupling(
                    target=item["target"],
                    side=item["side"],
                    channels=_unpacked(item["channels"], record["width"]),
                    dim=item["dim"],
                )
                for item in record["couplings"]
            ),
        )


@dataclass(frozen=True)
class FixedGroup:
    """Channels that stay as they are.

    Attributes:
        name: path of the first module that has them.
        reason: why they cannot be pruned.
        roots: paths of all convolutions and linear layers that are concerned.
    """

    name: str
    reason: str
    roots: tuple[str, ...] = ()


def _packed(channels: tuple[int, ...], width: int) -> dict[str, int] | list[int]:
    """Return {"repeat": r} for channel 0 r times, then channel 1 r times, …; else the list itself."""
    repeat = len(channels) // width
    return {"repeat": repeat} if channels == _repeated(width, repeat) else list(channels)


def _unpacked(packed: dict[str, int] | list[int], width: int) -> tuple[int, ...]:
    return _repeated(width, packed["repeat"]) if isinstance(packed, dict) else tuple(packed)


def _repeated(width: int, repeat: int) -> tuple[int, ...]:
    return tuple(channel for channel in range(width) for _ in range(repeat))

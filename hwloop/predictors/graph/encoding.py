"""Descriptions of networks as matrices: one block of columns for each thing that a kernel can weigh on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwloop.predictors.graph.features import KINDS, SIZES, Described, Description

FloatArray = NDArray[np.float64]

Blocks = tuple[FloatArray, ...]
"""(n, d) for each block, of the same n networks."""


@dataclass(frozen=True)
class Block:
    """How one block is made of descriptions.

    Its last column is not among `columns`: it sums by how much a network differs in what was the same in all known
    networks. A predictor has seen nothing of that, and knows by this column how far from home it is.

    Attributes:
        flow: of which flow (a key of `FLOWS`).
        kind: ``sizes`` or one of `KINDS`.
        columns: d - 1 names of what varies.
        constants: what all known networks have in common.
        centre: (d,) subtracted.
        unit: (d,) divided by; the known networks' rows have a mean squared length of 1.
    """

    flow: str
    kind: str
    columns: tuple[str, ...]
    constants: Mapping[str, float]
    centre: FloatArray
    unit: FloatArray

    @classmethod
    def learned(cls, flow: str, kind: str, known: Sequence[Description]) -> Block | None:
        """A block that suits the known networks; None where they do not differ."""
        amounts = [_amounts(one, kind) for one in known]
        names = sorted({name for row in amounts for name in row})
        varying, constants = [], {}
        for name in names:
            values = {row.get(name, 0.0) for row in amounts}
            if len(values) > 1:
                varying.append(name)
            else:
                constants[name] = values.pop()
        if not varying:
            return None
        raw = _matrix(amounts, varying)
        centre, unit = raw.mean(axis=0), np.ones(len(varying))
        if kind == "sizes":  # They are of different kinds: each counts the same.
            unit = raw.std(axis=0)
        unit = unit * np.sqrt((((raw - centre) / unit) ** 2).sum(axis=1).mean())
        return cls(flow, kind, tuple(varying), constants, np.append(centre, 0.0), np.append(unit, np.median(unit)))

    def raw(self, described: Sequence[Description]) -> FloatArray:
        """(n, d) of n descriptions, before they are scaled."""
        amounts = [_amounts(one, self.kind) for one in described]
        columns = set(self.columns)
        strange = [
            sum(
                abs(row.get(name, 0.0) - self.constants.get(name, 0.0))
                for name in self.constants.keys() | (row.keys() - columns)
            )
            for row in amounts
        ]
        return np.column_stack([_matrix(amounts, self.columns), np.array(strange, dtype=np.float64)])

    def scaled(self, raw: FloatArray) -> FloatArray:
        """(n, d) as a kernel takes them."""
        return (raw - self.centre) / self.unit

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {
            "flow": self.flow,
            "kind": self.kind,
            "columns": list(self.columns),
            "constants": dict(self.constants),
            "centre": self.centre.tolist(),
            "unit": self.unit.tolist(),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Block:
        """The inverse of `to_dict`."""
        centre, unit = (np.array(content[name], dtype=np.float64) for name in ("centre", "unit"))
        return cls(content["flow"], content["kind"], tuple(content["columns"]), content["constants"], centre, unit)


@dataclass(frozen=True)
class Encoding:
    """All blocks, in a fixed order.

    Attributes:
        blocks: at least one where the known networks differ.
    """

    blocks: tuple[Block, ...]

    @classmethod
    def learned(cls, known: Described, flows: Sequence[str]) -> Encoding:
        """The blocks that suit the known networks, for these flows."""
        blocks = [Block.learned(flow, kind, known.by_flow[flow]) for flow in flows for kind in ("sizes", *KINDS)]
        return cls(tuple(block for block in blocks if block is not None))

    @property
    def flows(self) -> tuple[str, ...]:
        """The flows that networks must be described by."""
        return tuple(dict.fromkeys(block.flow for block in self.blocks))

    def raw(self, described: Described) -> Blocks:
        """What the blocks make of n networks, before they are scaled."""
        return tuple(block.raw(described.by_flow[block.flow]) for block in self.blocks)

    def scaled(self, raw: Blocks) -> Blocks:
        """As a kernel takes them."""
        return tuple(block.scaled(rows) for block, rows in zip(self.blocks, raw, strict=True))

    def blocks_of(self, described: Described) -> Blocks:
        """The blocks of n networks."""
        return self.scaled(self.raw(described))

    def rows_to_lists(self, raw: Blocks) -> list[list[list[list[float]]]]:
        """By block and network, the columns that are not zero with their values: JSON-able and short."""
        return [[[[int(place), float(row[place])] for place in np.flatnonzero(row)] for row in rows] for rows in raw]

    def rows_from_lists(self, content: Sequence[Sequence[Sequence[tuple[int, float]]]]) -> Blocks:
        """The inverse of `rows_to_lists`."""
        raw = []
        for block, rows in zip(self.blocks, content, strict=True):
            matrix = np.zeros((len(rows), len(block.unit)))
            for row, found in zip(matrix, rows, strict=True):
                for place, value in found:
                    row[place] = value
            raw.append(matrix)
        return tuple(raw)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {"blocks": [block.to_dict() for block in self.blocks]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Encoding:
        """The inverse of `to_dict`."""
        return cls(tuple(Block.from_dict(block) for block in content["blocks"]))


def _amounts(described: Description, kind: str) -> Mapping[str, float]:
    if kind == "sizes":
        return dict(zip(SIZES, described.sizes, strict=True))
    return described.counts[kind]


def _matrix(amounts: Sequence[Mapping[str, float]], columns: Sequence[str]) -> FloatArray:
    places = {name: place for place, name in enumerate(columns)}
    matrix = np.zeros((len(amounts), len(columns)))
    for row, found in zip(matrix, amounts, strict=True):
        for name, amount in found.items():
            place = places.get(name)
            if place is not None:
                row[place] = amount
    return matrix

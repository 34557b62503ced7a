"""Two tables of the same layers: which layers are faster in the second, and by how much. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from hwloop.errors import UserError
from hwloop.measurement import Interval, Verdict, context_differences, judge, noise_floor
from hwloop.measurement.comparing import Numbers
from hwloop.tables.latency_table import LatencyTable
from hwloop.tables.pooling import Measured, pooled
from hwloop.tables.row import Row

LayerVerdict = Verdict | Literal["unknown"]
"""``unknown``: one of the two has neither an interval nor processes, as tables of others have it."""

FEWEST_ROWS = 5
"""An operation's own noise floor is believed from so many rows on; the device's holds for the others."""


@dataclass(frozen=True)
class LayerComparison:
    """One layer that both tables have.

    Attributes:
        key: of the layer.
        a_ms: latency in A.
        b_ms: latency in B.
        ratio: B over A.
        interval: of the ratio.
        noise_floor: that was held against it: of the layer's operation, else of the device; None when unknown.
        verdict: on B.
    """

    key: str
    a_ms: float
    b_ms: float
    ratio: float
    interval: Interval
    noise_floor: float | None
    verdict: LayerVerdict


@dataclass(frozen=True)
class TableComparison:
    """How table B compares with table A.

    Attributes:
        layers: that both have with a latency, largest change first.
        ratio: geometric mean of their ratios; nan when there are none.
        noise_floor: of the device: the larger of the two tables'; None where neither measured anything twice.
        differences: of the contexts, as "field: A / B".
        only_a: keys with a latency in A alone.
        only_b: keys with a latency in B alone.
    """

    layers: tuple[LayerComparison, ...]
    ratio: float
    noise_floor: float | None
    differences: tuple[str, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


def compare_tables(a: LatencyTable, b: LatencyTable, *, across: Sequence[str] = ()) -> TableComparison:
    """Compare two tables, layer by layer.

    Args:
        a: the reference.
        b: what is judged.
        across: fields of the context that are meant to differ: "runtime", "threads", "device".

    Raises:
        UserError: a field differs that was not meant to, or one of the tables is empty.
    """
    if a.context is None or b.context is None:
        raise UserError("one of the two tables is empty: there is nothing to compare")
    differences = context_differences(a.context, b.context, across, "tables")
    mine, theirs = _by_key(a), _by_key(b)
    floors = _Floors([row for rows in mine.values() for row in rows], [row for rows in theirs.values() for row in rows])
    layers = [_compare(key, mine[key], theirs[key], floors) for key in mine if key in theirs]
    layers.sort(key=lambda one: -abs(math.log(one.ratio)))
    mean = math.fsum(math.log(one.ratio) for one in layers) / len(layers) if layers else math.nan
    return TableComparison(
        layers=tuple(layers),
        ratio=math.exp(mean),
        noise_floor=floors.device,
        differences=differences,
        only_a=tuple(key for key in mine if key not in theirs),
        only_b=tuple(key for key in theirs if key not in mine),
    )


def _compare(key: str, a: Sequence[Row], b: Sequence[Row], floors: _Floors) -> LayerComparison:
    first, second = _numbers(a), _numbers(b)
    floor = floors.of(key)
    ratio = judge(first, second, floor)
    verdict: LayerVerdict = "unknown" if _is_vague(first, a) or _is_vague(second, b) else ratio.verdict
    return LayerComparison(key, first[1], second[1], ratio.value, ratio.interval, floor, verdict)


def _numbers(rows: Sequence[Row]) -> Numbers:
    one = pooled([Measured(row.status, row.low_ms, row.latency_ms, row.high_ms) for row in rows])
    return (one.low_ms, one.latency_ms, one.high_ms)


def _is_vague(numbers: Numbers, rows: Sequence[Row]) -> bool:
    """Whether nobody knows how far a latency can be trusted."""
    return numbers[0] == numbers[2] and not any(row.processes for row in rows)


def _by_key(table: LatencyTable) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in table.rows:
        if row.usable:
            found.setdefault(row.key, []).append(row)
    return found


class _Floors:
    """Noise floors of the device and of each operation: of both tables the larger one."""

    def __init__(self, *sides: Sequence[Row]) -> None:
        self._by_op: dict[str, float] = {}
        self.device = _largest(noise_floor(rows) for rows in sides)
        for op in {_op(row.key) for rows in sides for row in rows}:
            repeated = [[row for row in rows if _op(row.key) == op and row.processes > 1] for rows in sides]
            found = _largest(noise_floor(rows) for rows in repeated if len(rows) >= FEWEST_ROWS)
            if found is not None:
                self._by_op[op] = found

    def of(self, key: str) -> float | None:
        return self._by_op.get(_op(key), self.device)


def _op(key: str) -> str:
    return key.partition(" ")[0]


def _largest(floors: Iterable[float]) -> float | None:
    known = [floor for floor in floors if not math.isnan(floor)]
    return max(known, default=None)

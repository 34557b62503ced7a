"""Measured layers of one device and runtime."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from hwloop.errors import DataError, UserError
from hwloop.layers import Layer
from hwloop.measurement import USABLE
from hwloop.tablefile import Header, read_table, write_table
from hwloop.tables.clocks import FIELDS, clocks_of
from hwloop.tables.costs import Entry, LayerCosts, Point
from hwloop.tables.geometry import geometry
from hwloop.tables.grain import DEFAULT_NOISE, FEWEST_WIDTHS, Grain, learn_grain, pool_grains
from hwloop.tables.pooling import Measured, pooled
from hwloop.tables.records import check_numbers, context_of, distinct, to_arrow, to_row, usable
from hwloop.tables.row import Row


class LatencyTable:
    """Rows of measured layers, with a lookup that says where its numbers come from.

    A table is a value: `append`, `merge`, `filter` and `with_grain` return a new one. All rows share one `Context`. A
    layer may have several rows (history); a lookup takes the median of its ok rows, or of its degraded ones,
    flagged, when there is no ok one. Rows that failed stay in the table and are named by the lookup.

    Args:
        rows: of one context. Rows of the same layer and the same trials are kept once.
        grain: channels per block, see `hwloop.tables.grain`.
        mixed: differences that were mixed knowingly, see `merge`.

    Raises:
        UserError: rows of different contexts.
    """

    def __init__(self, rows: Iterable[Row] = (), grain: int = 1, mixed: Sequence[str] = ()) -> None:
        table = to_arrow(list(rows))
        context_of(table)  # before rows of the same trials are dropped, which may be of another context
        self._set(distinct(table), Header(grain, tuple(mixed)))

    def _set(self, table: Any, header: Header) -> None:
        if header.grain < 1:
            raise UserError(f"the grain is a number of channels, at least 1; got {header.grain}")
        self._table = table
        self._header = header
        self._costs: dict[str, LayerCosts] = {}
        self._positions: Mapping[Any, Any] | None = None
        self.context = context_of(table)

    @classmethod
    def _from_arrow(cls, table: Any, header: Header) -> LatencyTable:
        made = cls.__new__(cls)
        made._set(table, header)
        return made

    @classmethod
    def load(cls, path: Path) -> LatencyTable:
        """Read a table.

        Raises:
            DataError: no such file, not a table, damaged, of a newer version, without numbers, or of mixed
                contexts.
        """
        table, header = read_table(path)
        try:
            check_numbers(table)
            return cls._from_arrow(table, header)
        except UserError as error:
            raise DataError(f"latency table {path}: {error}") from error

    def save(self, path: Path) -> None:
        """Write the table to a Parquet file, whole or not at all.

        Raises:
            DataError: the file cannot be written; an old one is untouched.
        """
        write_table(path, self._table, self._header)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def usable(self) -> int:
        """How many rows have a latency."""
        return len(usable(self._table))

    def __contains__(self, layer: object) -> bool:
        """Whether a layer has at least one usable row."""
        return isinstance(layer, Layer) and any(row["status"] in USABLE for row in self._rows_of_key(layer))

    @property
    def header(self) -> Header:
        """What the table says about all of its rows."""
        return self._header

    @property
    def grain(self) -> int:
        """Channels per block."""
        return self._header.grain

    @property
    def mixed(self) -> tuple[str, ...]:
        """What was mixed knowingly, as "clock (600 MHz / 1500 MHz)"."""
        return self._header.mixed

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows in the order in which they were added."""
        return tuple(to_row(record) for record in self.records())

    def records(self) -> list[dict[str, Any]]:
        """All rows as plain data; keys as in `hwloop.tablefile.SCHEMA`, None for what is not known."""
        records: list[dict[str, Any]] = self._table.to_pylist()
        return records

    def to_frame(self) -> pd.DataFrame:
        """All rows as a data frame; columns as in `hwloop.tablefile.SCHEMA`."""
        frame: pd.DataFrame = self._table.to_pandas()
        return frame

    def append(self, rows: Iterable[Row], mix: Collection[str] = ()) -> LatencyTable:
        """The table with more rows; rows that are already there are not added again.

        Args:
            rows: to add.
            mix: see `merge`.

        Raises:
            UserError: a row of another device, runtime, version, number of threads, or of other clocks.
        """
        added = to_arrow(list(rows))
        return self._with(self._from_arrow(added, self._header), "append to", mix)

    def merge(self, other: LatencyTable, mix: Collection[str] = ()) -> LatencyTable:
        """The rows of both tables.

        Args:
            other: to add.
            mix: of `hwloop.tables.clocks.FIELDS`: what may differ all the same. What did differ is then in `mixed` of
                the new table, and stays there.

        Raises:
            UserError: they are of different devices, runtimes, versions or numbers of threads; their governors or
                clocks differ; or their grains differ.
        """
        if len(self) and len(other) and self.grain != other.grain:
            raise UserError(
                f"cannot merge latency tables of grain {self.grain} and {other.grain}; use with_grain on one"
            )
        return self._with(other, "merge", mix)

    def _with(self, other: LatencyTable, verb: str, mix: Collection[str]) -> LatencyTable:
        unknown = sorted(set(mix) - set(FIELDS))
        if unknown:
            raise UserError(f"{unknown[0]!r} cannot be mixed; what can be is {' and '.join(FIELDS)}")
        if self.context is not None and other.context is not None and self.context != other.context:
            differing = ", ".join(self.context.differences(other.context))
            raise UserError(f"cannot {verb} latency tables that differ in {differing}; keep one table for each")
        mine, theirs = clocks_of(self._table), clocks_of(other._table)
        found = {} if mine is None or theirs is None else mine.differences(theirs)
        refused = [text for field, text in found.items() if field not in mix]
        if refused:
            wish = " ".join(f"--mix {field}" for field in found if field not in mix)
            raise UserError(
                f"cannot {verb} latency tables that differ in {', '.join(refused)};"
                f" keep one table for each, or mix them knowingly with {wish}, which the new table records"
            )
        mixed = dict.fromkeys((*self.mixed, *other.mixed, *found.values()))
        header = Header(self.grain if len(self) else other.grain, tuple(mixed))
        return self._from_arrow(distinct(pa.concat_tables([self._table, other._table])), header)

    def filter(self, *, ops: Collection[str] = (), statuses: Collection[str] = (), pattern: str = "*") -> LatencyTable:
        """The rows that pass every criterion; grain and `mixed` stay.

        Args:
            ops: operations (`hwloop.layers.OPS`); all when empty.
            statuses: of rows; all when empty.
            pattern: a shell pattern that the whole key matches, such as ``conv * k3x3 *``; case counts.
        """
        columns = (self._table[name].to_pylist() for name in ("op", "status", "key"))
        keep = [
            (not ops or op in ops) and (not statuses or status in statuses) and fnmatchcase(key, pattern)
            for op, status, key in zip(*columns, strict=True)
        ]
        return self._from_arrow(self._table.filter(pa.array(keep, pa.bool_())), self._header)

    def with_grain(self, grain: int) -> LatencyTable:
        """The same rows with another grain."""
        return self._from_arrow(self._table, replace(self._header, grain=grain))

    def lookup(self, layer: Layer) -> Entry:
        """What a layer costs; a layer that was not measured gives an interpolated or an unsupported entry."""
        name = geometry(layer)
        if name not in self._costs:
            self._costs[name] = LayerCosts({name: self._points(name)}, self.grain)
        entry = self._costs[name].lookup(layer)
        rows = self._rows_of_key(layer)
        usable = any(row["status"] in USABLE for row in rows)
        failed = [row["status"] for row in rows if row["status"] not in USABLE]
        reasons = list(entry.reasons)
        if failed and not usable:
            reasons.append(f"measuring this layer failed: {', '.join(sorted(set(failed)))}")
        kind = entry.kind
        if kind == "exact" and not usable:  # the same widths in another split, as concat has them
            kind = "interpolated"
            reasons.append("another layer of the same widths was measured")
        return replace(entry, kind=kind, reasons=tuple(reasons))

    def costs(self, layers: Sequence[Layer], grain: int | None = None) -> LayerCosts:
        """What the geometries of some layers cost, for many widths at once; without the history.

        Args:
            layers: of the network.
            grain: channels per block; the table's own by default.
        """
        names = dict.fromkeys(geometry(layer) for layer in layers)
        return LayerCosts({name: self._points(name) for name in names}, grain or self.grain)

    def points(self) -> dict[str, list[Point]]:
        """What was measured with a latency, by geometry; the history of a pair of widths is one point."""
        found = {name: self._points(name) for name in map(str, self._index())}
        return {name: points for name, points in found.items() if points}

    def learn_grain(self, noise: float = DEFAULT_NOISE) -> Grain:
        """Learn the grain from every sweep that the table holds.

        A sweep is a convolution with one input width and at least four output widths, depthwise ones left
        out. The grain is the one on which the sweeps agree best; 1 when there is no sweep.

        Args:
            noise: relative standard deviation of a latency, such as the noise floor.
        """
        found: list[Grain] = []
        for name in sorted(map(str, self._index())):
            if not name.startswith("conv ") or " gW" in name:
                continue
            points = self._points(name)
            for inputs in sorted({point.inputs for point in points}):
                sweep = [point for point in points if point.inputs == inputs]
                if len(sweep) >= FEWEST_WIDTHS:
                    found.append(learn_grain([p.outputs for p in sweep], [p.latency_ms for p in sweep], noise))
        return pool_grains(found)

    def _index(self) -> Mapping[Any, Any]:
        if self._positions is None:
            self._positions = self._table.select(["geometry"]).to_pandas().groupby("geometry").indices
        return self._positions

    def _records(self, name: str) -> list[dict[str, Any]]:
        positions = self._index().get(name)
        if positions is None:
            return []
        columns = ["key", "inputs", "outputs", "latency_ms", "low_ms", "high_ms", "status"]
        records: list[dict[str, Any]] = self._table.select(columns).take(pa.array(positions)).to_pylist()
        return records

    def _rows_of_key(self, layer: Layer) -> list[dict[str, Any]]:
        return [record for record in self._records(geometry(layer)) if record["key"] == layer.key]

    def _points(self, name: str) -> list[Point]:
        by_widths: dict[tuple[int, int], list[Measured]] = {}
        for record in self._records(name):
            if record["status"] in USABLE:
                row = Measured(record["status"], record["low_ms"], record["latency_ms"], record["high_ms"])
                by_widths.setdefault((record["inputs"], record["outputs"]), []).append(row)
        return [_point(widths, pooled(by_widths[widths])) for widths in sorted(by_widths)]


def _point(widths: tuple[int, int], measured: Measured) -> Point:
    status, low_ms, latency_ms, high_ms = measured
    return Point(*widths, latency_ms, low_ms, high_ms, degraded=status != "ok")

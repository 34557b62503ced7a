"""Measured layers of one device and runtime."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from hwloop.errors import DataError, UserError
from hwloop.layers import Layer
from hwloop.measurement import USABLE
from hwloop.tables.costs import Entry, LayerCosts, Point
from hwloop.tables.geometry import geometry, width_pair
from hwloop.tables.grain import DEFAULT_NOISE, FEWEST_WIDTHS, Grain, learn_grain, pool_grains
from hwloop.tables.parquet import CONTEXT_COLUMNS, SCHEMA, read_table, write_table
from hwloop.tables.row import Context, Row


class LatencyTable:
    """Rows of measured layers, with a lookup that says where its numbers come from.

    A table is a value: `append`, `merge` and `with_grain` return a new one. All rows share one `Context`. A
    layer may have several rows (history); a lookup takes the median of its ok rows, or of its degraded ones,
    flagged, when there is no ok one. Rows that failed stay in the table and are named by the lookup.

    Args:
        rows: of one context. Rows of the same layer and the same trials are kept once.
        grain: channels per block, see `hwloop.tables.grain`.

    Raises:
        UserError: rows of different contexts.
    """

    def __init__(self, rows: Iterable[Row] = (), grain: int = 1) -> None:
        table = _arrow(list(rows))
        _context(table)  # before rows of the same trials are dropped, which may be of another context
        self._set(_distinct(table), grain)

    def _set(self, table: Any, grain: int) -> None:
        if grain < 1:
            raise UserError(f"the grain is a number of channels, at least 1; got {grain}")
        self._table = table
        self._costs: dict[str, LayerCosts] = {}
        self._positions: Mapping[Any, Any] | None = None
        self.grain = grain
        self.context = _context(table)

    @classmethod
    def _from_arrow(cls, table: Any, grain: int) -> LatencyTable:
        made = cls.__new__(cls)
        made._set(table, grain)
        return made

    @classmethod
    def load(cls, path: Path) -> LatencyTable:
        """Read a table.

        Raises:
            DataError: no such file, not a table, damaged, of a newer version, without numbers, or of mixed
                contexts.
        """
        table, grain = read_table(path)
        try:
            return cls._from_arrow(table, grain)
        except UserError as error:
            raise DataError(f"latency table {path}: {error}") from error

    def save(self, path: Path) -> None:
        """Write the table to a Parquet file, whole or not at all.

        Raises:
            DataError: the file cannot be written; an old one is untouched.
        """
        write_table(path, self._table, self.grain)

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, layer: object) -> bool:
        """Whether a layer has at least one usable row."""
        return isinstance(layer, Layer) and any(row["status"] in USABLE for row in self._rows_of_key(layer))

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows in the order in which they were added."""
        return tuple(_row(record) for record in self._table.to_pylist())

    def to_frame(self) -> pd.DataFrame:
        """All rows as a data frame; columns as in `hwloop.tables.parquet.SCHEMA`."""
        frame: pd.DataFrame = self._table.to_pandas()
        return frame

    def append(self, rows: Iterable[Row]) -> LatencyTable:
        """The table with more rows; rows that are already there are not added again.

        Raises:
            UserError: a row of another device, runtime, version or number of threads.
        """
        added = _arrow(list(rows))
        self._refuse_mixing(_context(added), "append to")
        return self._from_arrow(_distinct(pa.concat_tables([self._table, added])), self.grain)

    def merge(self, other: LatencyTable) -> LatencyTable:
        """The rows of both tables.

        Raises:
            UserError: they are of different devices, runtimes, versions or numbers of threads, or their
                grains differ.
        """
        self._refuse_mixing(other.context, "merge")
        if len(self) and len(other) and self.grain != other.grain:
            raise UserError(
                f"cannot merge latency tables of grain {self.grain} and {other.grain}; use with_grain on one"
            )
        grain = self.grain if len(self) else other.grain
        return self._from_arrow(_distinct(pa.concat_tables([self._table, other._table])), grain)

    def with_grain(self, grain: int) -> LatencyTable:
        """The same rows with another grain."""
        return self._from_arrow(self._table, grain)

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

    def _refuse_mixing(self, other: Context | None, verb: str) -> None:
        if self.context is not None and other is not None and self.context != other:
            differing = ", ".join(self.context.differences(other))
            raise UserError(f"cannot {verb} latency tables that differ in {differing}; keep one table for each")

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
        by_widths: dict[tuple[int, int], list[dict[str, Any]]] = {}
        for record in self._records(name):
            if record["status"] in USABLE:
                by_widths.setdefault((record["inputs"], record["outputs"]), []).append(record)
        return [_pooled(widths, by_widths[widths]) for widths in sorted(by_widths)]


def _pooled(widths: tuple[int, int], records: Sequence[Mapping[str, Any]]) -> Point:
    """The median of the ok rows, else of the degraded ones; its interval covers every row's latency."""
    ok = [record for record in records if record["status"] == "ok"]
    used = ok or records
    latencies = [record["latency_ms"] for record in used]
    return Point(
        *widths,
        latency_ms=statistics.median(latencies),
        low_ms=min(statistics.median(record["low_ms"] for record in used), *latencies),
        high_ms=max(statistics.median(record["high_ms"] for record in used), *latencies),
        degraded=not ok,
    )


def _arrow(rows: Sequence[Row]) -> Any:
    layers: dict[str, tuple[str, str, int, int]] = {}
    for row in rows:
        if row.key not in layers:
            layer = Layer.parse(row.key)
            layers[row.key] = (geometry(layer), layer.op, *width_pair(layer))
    return pa.Table.from_pylist([_record(row, *layers[row.key]) for row in rows], schema=SCHEMA)


def _record(row: Row, name: str, op: str, inputs: int, outputs: int) -> dict[str, Any]:
    def number(value: float) -> float | None:
        return None if math.isnan(value) else value

    return {
        "key": row.key,
        "geometry": name,
        "op": op,
        "inputs": inputs,
        "outputs": outputs,
        "latency_ms": number(row.latency_ms),
        "low_ms": number(row.low_ms),
        "high_ms": number(row.high_ms),
        "process_medians_ms": list(row.process_medians_ms),
        "processes": row.processes,
        "peak_bytes": row.peak_bytes,
        "model_bytes": row.model_bytes,
        "status": row.status,
        "reasons": list(row.reasons),
        **{column: getattr(row.context, column) for column in CONTEXT_COLUMNS},
        "governor": row.governor,
        "clock_mhz": row.clock_mhz,
        "temperature_c": row.temperature_c,
        "throttle": row.throttle,
        "canary_ratio": row.canary_ratio,
        "samples_sha256": row.samples_sha256,
        "trial_ids": list(row.trial_ids),
        "agent_sha256": row.agent_sha256,
        "measured_at": row.measured_at,
        "emulated": row.emulated,
        "fusion": row.fusion,
    }


def _row(record: Mapping[str, Any]) -> Row:
    def number(value: float | None) -> float:
        return float("nan") if value is None else value

    return Row(
        key=record["key"],
        latency_ms=number(record["latency_ms"]),
        low_ms=number(record["low_ms"]),
        high_ms=number(record["high_ms"]),
        process_medians_ms=tuple(record["process_medians_ms"]),
        peak_bytes=record["peak_bytes"],
        model_bytes=record["model_bytes"],
        status=record["status"],
        reasons=tuple(record["reasons"]),
        context=Context(**{column: record[column] for column in CONTEXT_COLUMNS}),
        governor=record["governor"],
        clock_mhz=record["clock_mhz"],
        temperature_c=record["temperature_c"],
        throttle=record["throttle"],
        canary_ratio=record["canary_ratio"],
        samples_sha256=record["samples_sha256"],
        trial_ids=tuple(record["trial_ids"]),
        agent_sha256=record["agent_sha256"],
        measured_at=record["measured_at"],
        emulated=record["emulated"],
        fusion=record["fusion"],
    )


def _context(table: Any) -> Context | None:
    """The one context of a table; None when it is empty.

    Raises:
        UserError: there are several.
    """
    found = table.select(list(CONTEXT_COLUMNS)).group_by(list(CONTEXT_COLUMNS)).aggregate([]).to_pylist()
    contexts = [Context(**record) for record in found]
    if len(contexts) > 1:
        differing = ", ".join(contexts[0].differences(contexts[1]))
        raise UserError(f"rows of one latency table differ in {differing}; keep one table for each")
    return contexts[0] if contexts else None


def _distinct(table: Any) -> Any:
    """Every row once: rows of one layer and the same trials are one; a row without trials is its own."""
    seen: set[tuple[str, tuple[str, ...]]] = set()
    keep: list[bool] = []
    for key, trials in zip(table["key"].to_pylist(), table["trial_ids"].to_pylist(), strict=True):
        name = (key, tuple(trials))
        keep.append(not trials or name not in seen)
        seen.add(name)
    return table if all(keep) else table.filter(pa.array(keep))

"""Rows as an Arrow table and back: what `hwloop.tablefile` stores, with the meaning that rows have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hwloop.errors import UserError
from hwloop.layers import Layer
from hwloop.measurement import USABLE
from hwloop.tablefile import CONTEXT_COLUMNS, SCHEMA
from hwloop.tables.geometry import geometry, width_pair
from hwloop.tables.row import Context, Row

#: Columns that are a field of `Row` as they are.
PLAIN = (
    "key",
    "peak_bytes",
    "model_bytes",
    "status",
    "governor",
    "clock_mhz",
    "temperature_c",
    "throttle",
    "canary_ratio",
    "samples_sha256",
    "agent_sha256",
    "measured_at",
    "emulated",
    "fusion",
    "workload_sha256",
    "energy_mj",
)
#: Columns of numbers that a row without a latency does not have: nan in a `Row`, null in a table.
NUMBERS = ("latency_ms", "low_ms", "high_ms")
#: Columns that are lists in a table and tuples in a `Row`.
LISTS = ("process_medians_ms", "reasons", "trial_ids")


def to_arrow(rows: Sequence[Row]) -> Any:
    """Return rows as a `pyarrow.Table` of `SCHEMA`.

    Raises:
        ModelError: a row's key is none.
    """
    derived: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.key not in derived:
            layer = Layer.parse(row.key)
            inputs, outputs = width_pair(layer)
            derived[row.key] = {"geometry": geometry(layer), "op": layer.op, "inputs": inputs, "outputs": outputs}
    return pa.Table.from_pylist([{**derived[row.key], **_record(row)} for row in rows], schema=SCHEMA)


def _record(row: Row) -> dict[str, Any]:
    numbers = {name: getattr(row, name) for name in NUMBERS}
    return {
        **{name: getattr(row, name) for name in PLAIN},
        **{name: None if math.isnan(number) else number for name, number in numbers.items()},
        **{name: list(getattr(row, name)) for name in LISTS},
        **{name: getattr(row.context, name) for name in CONTEXT_COLUMNS},
        "processes": row.processes,
    }


def to_row(record: Mapping[str, Any]) -> Row:
    """Return the row of one record of `SCHEMA`.

    Raises:
        UserError: it is called usable and has no number.
    """
    fields: dict[str, Any] = {name: record[name] for name in PLAIN}
    fields |= {name: math.nan if record[name] is None else record[name] for name in NUMBERS}
    fields |= {name: tuple(record[name]) for name in LISTS}
    return Row(**fields, context=Context(**{name: record[name] for name in CONTEXT_COLUMNS}))


def context_of(table: Any) -> Context | None:
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


def usable(table: Any) -> Any:
    """The rows with a latency."""
    return table.filter(pc.is_in(table["status"], value_set=pa.array(USABLE)))


def check_numbers(table: Any) -> None:
    """Refuse usable rows without a latency.

    Raises:
        UserError: a usable row's latency or interval is not positive and finite; the text names the first one.
    """
    rows = usable(table)
    sound = pa.scalar(True)
    for name in NUMBERS:
        column = pc.fill_null(rows[name], math.nan)
        sound = pc.and_(sound, pc.and_(pc.is_finite(column), pc.greater(column, 0)))
    bad = rows.filter(pc.invert(sound)) if len(rows) else rows
    if len(bad):
        raise UserError(
            f"it has {len(bad)} usable rows without a positive, finite latency, first {bad['key'][0].as_py()!r};"
            " remove them or measure again"
        )


def distinct(table: Any) -> Any:
    """Every row once: rows of one layer and the same trials are one; a row without trials is its own."""
    seen: set[tuple[str, tuple[str, ...]]] = set()
    keep: list[bool] = []
    for key, trials in zip(table["key"].to_pylist(), table["trial_ids"].to_pylist(), strict=True):
        name = (key, tuple(trials))
        keep.append(not trials or name not in seen)
        seen.add(name)
    return table if all(keep) else table.filter(pa.array(keep))
